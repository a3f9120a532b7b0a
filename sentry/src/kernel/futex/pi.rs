//! Priority-inheritance futexes (futex(2), `kernel/futex/pi.c`).
//!
//! The host schedules, so there is no priority to inherit; what remains is who owns the lock. The word holds
//! the owner's thread id and whether others wait. A lock that is given up goes straight to the first waiter:
//! the word is changed under the bucket's lock, and the waiter wakes up as owner.

use std::sync::{Arc, atomic::Ordering};

use ranked_sync::Mutex;

use super::{
    table::{Entry, FutexKey, Waiter},
    wait::WaitOn,
};
use crate::{
    Restart, SysError, SysResult, err,
    kernel::CurrentTask,
    time::Monotonic,
    user::{UserAddr, UserMemory},
};

const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// What an attempt to take the lock found.
enum Attempt {
    Taken,
    /// Its owner holds it; the word says now that someone waits.
    Held,
}

impl CurrentTask {
    /// FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI.
    pub(crate) fn futex_lock_pi(
        &mut self,
        addr: UserAddr,
        shared: bool,
        deadline: Option<Monotonic>,
        try_only: bool,
    ) -> SysResult<()> {
        let key = self.futex_key(addr, shared)?;
        self.check_owner_exists(addr)?;
        let waiter = Waiter::new(self.waker().clone(), self.tid());
        self.waker().prepare();
        {
            let kernel = self.kernel().clone();
            let index = kernel.futexes.index(&key);
            let bucket = kernel.futexes.bucket(index);
            let mut entries = bucket.announce();
            let waits = entries.iter().any(|entry| entry.key == key);
            let outcome = self.try_take_pi(addr, self.tid() as u32, waits, !try_only);
            match outcome {
                Ok(Attempt::Held) if !try_only => {
                    waiter.bucket.store(index, Ordering::SeqCst);
                    let entry = Entry {
                        key,
                        bitset: u32::MAX,
                        waiter: waiter.clone(),
                        pi: true,
                        requeue_pi: None,
                    };
                    bucket.insert(&mut entries, entry);
                }
                other => {
                    drop(entries);
                    bucket.retract();
                    return match other? {
                        Attempt::Taken => Ok(()),
                        Attempt::Held => err!(EAGAIN),
                    };
                }
            }
        }
        self.wait_for_pi(&waiter, deadline)
    }

    /// `ESRCH` when the word names an owner that there is not. Looked at before the bucket is locked: the pid table
    /// comes first in the lock order.
    fn check_owner_exists(&self, addr: UserAddr) -> SysResult<()> {
        let value = self.mm().load_u32(addr)?;
        let owner = (value & TID_MASK) as i32;
        let missing = owner != 0 && self.kernel().tasks.task(owner).is_none();
        // The word may have changed hands meanwhile.
        if missing && self.mm().load_u32(addr)? == value { err!(ESRCH) } else { Ok(()) }
    }

    /// The handed-over lock, or why not.
    fn wait_for_pi(&mut self, waiter: &Arc<Waiter>, deadline: Option<Monotonic>) -> SysResult<()> {
        match self.sleep_until_woken(waiter, deadline) {
            // Interrupted by a signal: the lock is asked for again afterwards, always.
            Err(SysError::Restart(_)) => Err(Restart::Always.into()),
            result => result,
        }
    }

    /// With the bucket locked: takes the lock for `tid` if it is free.
    fn try_take_pi(
        &self,
        addr: UserAddr,
        tid: u32,
        others_wait: bool,
        mark: bool,
    ) -> SysResult<Attempt> {
        let mut value = self.mm().load_u32(addr)?;
        loop {
            let owner = value & TID_MASK;
            if owner == tid {
                return err!(EDEADLK);
            }
            let free = owner == 0;
            if !free && !mark {
                return Ok(Attempt::Held);
            }
            let new = if free {
                tid | (value & OWNER_DIED) | if others_wait { WAITERS } else { 0 }
            } else {
                value | WAITERS
            };
            let seen = self.mm().cmpxchg_u32(addr, value, new)?;
            if seen == value {
                return Ok(if free { Attempt::Taken } else { Attempt::Held });
            }
            value = seen;
        }
    }

    /// FUTEX_UNLOCK_PI.
    pub(crate) fn futex_unlock_pi(&mut self, addr: UserAddr, shared: bool) -> SysResult<()> {
        let value = self.mm().load_u32(addr)?;
        if value & TID_MASK != self.tid() as u32 {
            return err!(EPERM);
        }
        let key = self.futex_key(addr, shared)?;
        self.hand_over_pi(addr, &key, 0)
    }

    /// Gives the lock to the first waiter, or frees it.
    fn hand_over_pi(&self, addr: UserAddr, key: &FutexKey, died: u32) -> SysResult<()> {
        let kernel = self.kernel();
        let bucket = kernel.futexes.bucket_of(key);
        let mut entries = bucket.entries.lock();
        let first = entries.iter().position(|entry| entry.key == *key && entry.pi);
        let (new, waiter) = match first {
            None => (died, None),
            Some(at) => {
                let entry = bucket.remove(&mut entries, at);
                let more = entries.iter().any(|entry| entry.key == *key && entry.pi);
                let tid = entry.waiter.tid as u32;
                (tid | died | if more { WAITERS } else { 0 }, Some(entry.waiter))
            }
        };
        let stored = self.mm().update_u32(addr, &mut |_| new);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        stored?;
        Ok(())
    }

    /// The owner ended: the next waiter gets the lock and is told so by the word.
    pub(super) fn release_pi_of_dead(&mut self, word: UserAddr) {
        for shared in [false, true] {
            if let Ok(key) = self.futex_key(word, shared) {
                let bucket = self.kernel().futexes.bucket_of(&key);
                let waits = bucket.entries.lock().iter().any(|entry| entry.key == key && entry.pi);
                if waits {
                    let _ = self.hand_over_pi(word, &key, OWNER_DIED);
                    return;
                }
            }
        }
    }

    /// FUTEX_WAIT_REQUEUE_PI: waits on the first futex until moved to the second, and owns that when it returns.
    pub(crate) fn futex_wait_requeue_pi(
        &mut self,
        on: WaitOn,
        target: UserAddr,
        deadline: Option<Monotonic>,
    ) -> SysResult<()> {
        if on.bitset == 0 || on.addr == target {
            return err!(EINVAL);
        }
        let key = self.futex_key(on.addr, on.shared)?;
        let target_key = self.futex_key(target, on.shared)?;
        let waiter = Waiter::new(self.waker().clone(), self.tid());
        self.waker().prepare();
        self.queue_if_equal(&waiter, key, on, Some(target_key))?;
        match self.sleep_until_woken(&waiter, deadline) {
            Err(SysError::Restart(_)) if waiter.requeued_pi.load(Ordering::SeqCst) => err!(EAGAIN),
            Err(SysError::Restart(_)) => Err(Restart::IfSaRestart.into()),
            result => result,
        }
    }

    /// FUTEX_CMP_REQUEUE_PI: the first waiter gets the second futex if it is free; up to `requeue` others
    /// wait for it.
    pub(crate) fn futex_cmp_requeue_pi(
        &self,
        from: (UserAddr, bool),
        to: (UserAddr, bool),
        requeue: usize,
        expected: u32,
    ) -> SysResult<usize> {
        let from_key = self.futex_key(from.0, from.1)?;
        let to_key = self.futex_key(to.0, to.1)?;
        if from_key == to_key {
            return err!(EINVAL);
        }
        let table = &self.kernel().futexes;
        let (a, b) = (table.index(&from_key), table.index(&to_key));
        let (source, target) = (table.bucket(a), table.bucket(b));
        let (mut entries, mut others) = if a == b {
            (source.entries.lock(), None)
        } else {
            let (one, two) = Mutex::lock_pair(&source.entries, &target.entries);
            (one, Some(two))
        };
        if self.mm().load_u32(from.0)? != expected {
            return err!(EAGAIN);
        }
        let mut done = 0;
        let mut at = 0;
        while done < requeue.saturating_add(1) {
            let Some(entry) = entries.get(at) else { break };
            if entry.key != from_key {
                at += 1;
                continue;
            }
            if entry.requeue_pi != Some(to_key) {
                return err!(EINVAL);
            }
            let tid = entry.waiter.tid as u32;
            let waits = {
                let there = others.as_deref().unwrap_or(&*entries);
                there.iter().any(|entry| entry.key == to_key && entry.pi)
            };
            let taken = matches!(self.try_take_pi(to.0, tid, waits, true)?, Attempt::Taken);
            let mut entry = source.remove(&mut entries, at);
            entry.waiter.requeued_pi.store(true, Ordering::SeqCst);
            done += 1;
            if taken {
                entry.waiter.wake();
                continue;
            }
            (entry.key, entry.pi, entry.requeue_pi) = (to_key, true, None);
            entry.waiter.bucket.store(b, Ordering::SeqCst);
            target.count.fetch_add(1, Ordering::SeqCst);
            target.insert(others.as_deref_mut().unwrap_or(&mut *entries), entry);
        }
        Ok(done)
    }
}
