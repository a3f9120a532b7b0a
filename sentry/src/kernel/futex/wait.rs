//! FUTEX_WAIT and its relatives.

use std::sync::{Arc, atomic::Ordering};

use super::table::{Entry, FutexKey, Waiter};
use crate::{
    Errno, Restart, SysError, SysResult, err,
    kernel::{CurrentTask, SleepEnd},
    time::Monotonic,
    user::{UserAddr, UserMemory},
};

/// One futex of FUTEX_WAIT or futex_waitv(2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitOn {
    pub(crate) addr: UserAddr,
    pub(crate) value: u32,
    pub(crate) bitset: u32,
    pub(crate) shared: bool,
}

impl CurrentTask {
    /// The identity of the futex at `addr`.
    pub(crate) fn futex_key(&self, addr: UserAddr, shared: bool) -> SysResult<FutexKey> {
        if addr.0 & 3 != 0 {
            return err!(EINVAL);
        }
        if addr.0 >= self.mm().user_range().end {
            return err!(EFAULT);
        }
        Ok(super::ops::key_of(self.mm(), addr, shared)?)
    }

    fn take_waiter(&mut self) -> Arc<Waiter> {
        // A waker may still hold the last one for a moment: then it is not reused.
        let tid = self.tid();
        let kept =
            self.futex_waiter.take().filter(|kept| Arc::strong_count(kept) == 1 && kept.tid == tid);
        let waiter = kept.unwrap_or_else(|| Waiter::new(self.waker().clone(), tid));
        waiter.woken.store(false, Ordering::SeqCst);
        waiter.requeued_pi.store(false, Ordering::SeqCst);
        waiter
    }

    /// Waits until woken. `EAGAIN` when the word is not `value`, `ETIMEDOUT` at the deadline.
    pub(crate) fn futex_wait(&mut self, on: WaitOn, deadline: Option<Monotonic>) -> SysResult<()> {
        if on.bitset == 0 {
            return err!(EINVAL);
        }
        let key = self.futex_key(on.addr, on.shared)?;
        let waiter = self.take_waiter();
        let result = self.queue_and_sleep(&waiter, key, on, deadline);
        self.futex_waiter = Some(waiter);
        result
    }

    fn queue_and_sleep(
        &mut self,
        waiter: &Arc<Waiter>,
        key: FutexKey,
        on: WaitOn,
        deadline: Option<Monotonic>,
    ) -> SysResult<()> {
        self.waker().prepare();
        self.queue_if_equal(waiter, key, on, None)?;
        self.sleep_until_woken(waiter, deadline)
    }

    /// Queues the waiter if the word has the value.
    pub(super) fn queue_if_equal(
        &self,
        waiter: &Arc<Waiter>,
        key: FutexKey,
        on: WaitOn,
        requeue_pi: Option<FutexKey>,
    ) -> SysResult<()> {
        let kernel = self.kernel();
        let index = kernel.futexes.index(&key);
        let bucket = kernel.futexes.bucket(index);
        let mut entries = bucket.announce();
        let value = self.mm().load_u32(on.addr);
        if value != Ok(on.value) {
            drop(entries);
            bucket.retract();
            return match value {
                Ok(_) => err!(EAGAIN),
                Err(errno) => Err(errno.into()),
            };
        }
        waiter.bucket.store(index, Ordering::SeqCst);
        let entry = Entry { key, bitset: on.bitset, waiter: waiter.clone(), pi: false, requeue_pi };
        bucket.insert(&mut entries, entry);
        Ok(())
    }

    pub(super) fn sleep_until_woken(
        &mut self,
        waiter: &Arc<Waiter>,
        deadline: Option<Monotonic>,
    ) -> SysResult<()> {
        let futexes = &self.kernel().clone().futexes;
        loop {
            if waiter.woken.load(Ordering::SeqCst) {
                return Ok(());
            }
            let end = self.sleep(deadline);
            if waiter.woken.load(Ordering::SeqCst) {
                return Ok(());
            }
            match end {
                SleepEnd::Woken => self.waker().prepare(),
                _ if !futexes.cancel(waiter) => return Ok(()),
                SleepEnd::TimedOut => return err!(ETIMEDOUT),
                SleepEnd::Interrupted => return Err(Restart::IfSaRestart.into()),
            }
        }
    }

    /// futex_waitv(2): the index of a futex that was woken.
    pub(crate) fn futex_wait_multiple(
        &mut self,
        all: &[WaitOn],
        deadline: Option<Monotonic>,
    ) -> SysResult<usize> {
        let mut waiters = Vec::new();
        self.waker().prepare();
        let mut failed = None;
        for (at, on) in all.iter().enumerate() {
            let waiter = Waiter::new(self.waker().clone(), self.tid());
            let queued = self
                .futex_key(on.addr, on.shared)
                .and_then(|key| self.queue_if_equal(&waiter, key, *on, None));
            match queued {
                Ok(()) => waiters.push(waiter),
                Err(error) => {
                    failed = Some((at, error));
                    break;
                }
            }
        }
        loop {
            let end = match failed {
                Some(_) => SleepEnd::Interrupted,
                None if waiters.iter().any(|waiter| waiter.woken.load(Ordering::SeqCst)) => {
                    SleepEnd::Woken
                }
                None => self.sleep(deadline),
            };
            let woken = waiters.iter().position(|waiter| waiter.woken.load(Ordering::SeqCst));
            if end == SleepEnd::Woken && woken.is_none() {
                self.waker().prepare();
                continue;
            }
            let mut first = woken;
            for (at, waiter) in waiters.iter().enumerate() {
                if !self.kernel().futexes.cancel(waiter) {
                    first = first.or(Some(at));
                }
            }
            return match (first, failed, end) {
                (Some(at), ..) => Ok(at),
                (None, Some((_, error)), _) => Err(error),
                (None, None, SleepEnd::TimedOut) => err!(ETIMEDOUT),
                _ => Err(SysError::Restart(Restart::IfSaRestart)),
            };
        }
    }

    /// FUTEX_WAKE from inside the kernel (CLONE_CHILD_CLEARTID): private and shared waiters alike.
    pub(in crate::kernel) fn wake_futex_at(&self, addr: UserAddr, count: usize) {
        for shared in [false, true] {
            if let Ok(key) = self.futex_key(addr, shared) {
                let _: Result<usize, Errno> = self.kernel().futexes.wake(&key, count, u32::MAX);
            }
        }
    }
}
