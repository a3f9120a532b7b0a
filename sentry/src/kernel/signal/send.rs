//! Sending (`__send_signal_locked` and `complete_signal` in `kernel/signal.c`).

use std::sync::atomic::Ordering;

use linux_abi::{
    Errno, SigInfo, SigSet, Signal,
    signal::{SigAction, si_code},
};

use super::{DefaultAction, SignalQueue};
use crate::{
    kernel::{ExitStatus, Task, ThreadGroup, thread_group::GroupState},
    wait::EventMask,
};

impl Task {
    /// Sends to this thread. `EAGAIN` when a real-time signal finds the queue full.
    pub fn send_signal(&self, info: SigInfo) -> Result<(), Errno> {
        self.thread_group().send(info, Some(self))
    }

    /// Sends a signal that the thread raised itself and cannot escape: when it is blocked or ignored, the
    /// action goes back to the default, which ends the process (`force_sig_info`).
    pub fn force_signal(&self, info: SigInfo) {
        let Some(signal) = info.signal() else { return };
        let handlers = self.thread_group().handlers();
        let action = handlers.get(signal);
        let blocked = self.blocked().contains(signal);
        if blocked || action.handler == SigAction::IGN {
            handlers.set(signal, SigAction::default());
            self.set_blocked_raw(self.blocked().minus(signal.set()));
        }
        let _ = self.thread_group().send(info, Some(self));
        self.interrupt();
    }

    /// Sends a signal that no handler can catch.
    pub fn force_fatal(&self, info: SigInfo) {
        if let Some(signal) = info.signal() {
            self.thread_group().handlers().set(signal, SigAction::default());
            self.set_blocked_raw(self.blocked().minus(signal.set()));
        }
        self.force_signal(info);
    }
}

impl ThreadGroup {
    /// Sends to the process: any thread that does not block it may take it.
    pub fn send_signal(&self, info: SigInfo) -> Result<(), Errno> {
        self.send(info, None)
    }

    /// These came while it was being made.
    pub(in crate::kernel) fn inherit_signals(&self, signals: SigSet) {
        let mut state = self.state.lock();
        let mut rest = signals;
        while let Some(signal) = rest.first() {
            state.signals.mark(signal);
            rest = rest.minus(signal.set());
        }
        self.pending.store(state.signals.set().0, Ordering::SeqCst);
    }

    /// SIGKILL from the kernel.
    pub fn kill(&self) {
        let _ = self.send_signal(SigInfo::kernel(Signal::KILL));
    }

    fn send(&self, info: SigInfo, to: Option<&Task>) -> Result<(), Errno> {
        self.post(info, to, false)?;
        self.signal_queue.wake(EventMask::READABLE);
        Ok(())
    }

    /// Sends to the process and tells its threads, but for those that watch its queue. `many`: it goes to several
    /// processes, so that one which is being made gets it as well.
    pub(super) fn post(&self, info: SigInfo, to: Option<&Task>, many: bool) -> Result<(), Errno> {
        let Some(signal) = info.signal() else { return Ok(()) };
        let action = self.handlers().get(signal).handler;
        let default = DefaultAction::of(signal);
        let ignored = action == SigAction::IGN
            || (action == SigAction::DFL && default == DefaultAction::Ignore);
        let limit = self.limits().soft(libc::RLIMIT_SIGPENDING);
        {
            let mut state = self.state.lock();
            if state.exit.is_some() {
                return Ok(()); // Dying: nothing arrives any more.
            }
            self.prepare_stop_or_continue(&mut state, signal);
            let keeps = |task: &Task| {
                task.holds_back(signal) || (task.is_traced() && signal != Signal::KILL)
            };
            if ignored && !to.or(state.leader.as_deref()).is_some_and(keeps) {
                return Ok(());
            }
            match to {
                Some(task) => {
                    let mut queue = task.signals.lock();
                    enqueue(&mut queue, signal, info, limit)?;
                    task.pending.store(queue.set().0, Ordering::SeqCst);
                }
                None => {
                    if many {
                        let GroupState { forks, signals, .. } = &mut *state;
                        forks.add(signal, signals);
                    }
                    enqueue(&mut state.signals, signal, info, limit)?;
                    self.pending.store(state.signals.set().0, Ordering::SeqCst);
                }
            }
            self.choose_receiver(&mut state, signal, to, action, default);
        }
        Ok(())
    }

    /// Stop signals and SIGCONT cancel each other, and SIGCONT continues a stopped process even when
    /// it is blocked or ignored.
    fn prepare_stop_or_continue(&self, state: &mut GroupState, signal: Signal) {
        if signal == Signal::CONT {
            self.flush(state, SigSet::STOPS);
            state.continue_group();
            for thread in &state.threads {
                thread.wake_from_stop();
            }
        } else if SigSet::STOPS.contains(signal) {
            self.flush(state, Signal::CONT.set());
        }
    }

    /// Forgets pending signals of the group and all its threads.
    pub(in crate::kernel) fn flush(&self, state: &mut GroupState, which: SigSet) {
        state.signals.flush(which);
        self.pending.store(state.signals.set().0, Ordering::SeqCst);
        for thread in &state.threads {
            let mut queue = thread.signals.lock();
            queue.flush(which);
            thread.pending.store(queue.set().0, Ordering::SeqCst);
        }
    }

    fn choose_receiver(
        &self,
        state: &mut GroupState,
        signal: Signal,
        to: Option<&Task>,
        action: u64,
        default: DefaultAction,
    ) {
        let wants = |task: &Task| !task.holds_back(signal) || signal == Signal::KILL;
        let other;
        let receiver = match to {
            Some(task) => task,
            None => {
                let mut threads = state.leader.iter().chain(&state.threads);
                other = threads.find(|thread| wants(thread) && !thread.is_exited()).cloned();
                match &other {
                    Some(task) => task,
                    None => return,
                }
            }
        };
        if !wants(receiver) {
            return;
        }
        let fatal = action == SigAction::DFL
            && matches!(default, DefaultAction::Terminate | DefaultAction::Core);
        if fatal && (signal == Signal::KILL || !receiver.is_traced()) {
            // Everyone dies at once, also those in sleeps that only a fatal signal ends.
            self.begin_exit(state, ExitStatus::Signaled { signal, core: false });
            return;
        }
        receiver.interrupt();
    }
}

/// Standard signals are pending at most once; when the queue is full, a real-time signal from a
/// process fails and others lose their details.
fn enqueue(
    queue: &mut SignalQueue,
    signal: Signal,
    info: SigInfo,
    limit: u64,
) -> Result<(), Errno> {
    // Each timer has its place in the queue, also for standard signals.
    if !signal.is_realtime() && queue.set().contains(signal) && info.code != si_code::TIMER {
        return Ok(());
    }
    if queue.len() as u64 >= limit && signal != Signal::KILL && info.code < si_code::KERNEL {
        if signal.is_realtime() && info.code != si_code::USER {
            return Err(Errno::EAGAIN);
        }
        queue.mark(signal);
        return Ok(());
    }
    queue.push(signal, info);
    Ok(())
}
