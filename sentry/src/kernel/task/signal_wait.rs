//! Waiting for signals instead of handling them (sigtimedwait(2)), and forgetting ignored ones.

use std::sync::atomic::Ordering;

use linux_abi::{
    SigInfo, SigSet, Signal,
    signal::{SigStack, si_code},
};

use super::signal_frame::SS_AUTODISARM;
use crate::{
    Restart, SysError, SysResult, err,
    kernel::{CurrentTask, Task, ThreadGroup},
    time::Monotonic,
    wait::EventMask,
};

impl CurrentTask {
    /// Takes a pending signal of `wanted`, or waits for one. `EAGAIN` at the deadline, `EINTR` when another
    /// signal is delivered.
    pub(crate) fn wait_for_signal(
        &mut self,
        wanted: SigSet,
        deadline: Option<Monotonic>,
    ) -> SysResult<(Signal, SigInfo)> {
        // While it waits, these are kept for it even where they are not blocked.
        self.task.awaited.store(wanted.0, Ordering::SeqCst);
        let group = self.thread_group().clone();
        let result = self.block_until(
            deadline,
            |task| group.signal_queue.register(task.waker().clone(), EventMask::READABLE),
            |task| Ok(task.dequeue_signal(wanted)),
        );
        self.task.awaited.store(0, Ordering::SeqCst);
        if !self.task.deliverable().is_empty() {
            self.task.waker.interrupt();
        }
        match result {
            Ok(Some(found)) => Ok(found),
            Ok(None) => err!(EAGAIN),
            // It does not restart whatever the handler says; without one it goes on waiting.
            Err(SysError::Restart(_)) => match deadline {
                None => Err(Restart::NoHandler.into()),
                Some(_) => err!(EINTR),
            },
            Err(error) => Err(error),
        }
    }

    /// What sigaltstack(2) says is set.
    pub(crate) fn reported_alt_stack(&self, sp: u64) -> SigStack {
        let mode = self.alt_stack.flags as u32 & SS_AUTODISARM;
        let flags = self.alt_stack_state(sp) | mode as i32;
        SigStack { flags, pad: 0, ..self.alt_stack }
    }
}

impl Task {
    /// Takes a pending signal of `wanted`: the thread's own first.
    pub fn take_signal(&self, wanted: SigSet) -> Option<(Signal, SigInfo)> {
        let (own, shared) = self.pending_signals();
        if own.union(shared).intersection(wanted).is_empty() {
            return None;
        }
        let group = self.thread_group();
        let (signal, mut info) = {
            let mut state = group.state.lock();
            let mut queue = self.signals.lock();
            if let Some(signal) = queue.next(wanted) {
                let info = queue.take(signal)?;
                self.pending.store(queue.set().0, Ordering::SeqCst);
                (signal, info)
            } else {
                drop(queue);
                let signal = state.signals.next(wanted)?;
                let info = state.signals.take(signal)?;
                group.pending.store(state.signals.set().0, Ordering::SeqCst);
                (signal, info)
            }
        };
        if info.code == si_code::TIMER {
            group.timers.delivered(&mut info);
        }
        Some((signal, info))
    }
}

impl ThreadGroup {
    /// The signal is ignored from now on: pending ones are forgotten.
    pub(crate) fn forget_signal(&self, signal: Signal) {
        self.flush(&mut self.state.lock(), signal.set());
    }
}
