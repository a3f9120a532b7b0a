//! Stopping and continuing a whole process (job control; `do_signal_stop` in `kernel/signal.c`).

use linux_abi::{
    SigInfo, Signal,
    signal::{sa, si_code},
};

use super::{RunState, Task};
use crate::{
    kernel::{
        CurrentTask, ThreadGroup,
        task_set::INIT,
        thread_group::{GroupState, StateReport},
    },
    wait::EventMask,
};

impl CurrentTask {
    /// A stop signal without a handler was delivered.
    pub(super) fn start_group_stop(&mut self, signal: Signal) {
        let group = self.task.thread_group();
        // In an orphaned group no shell could continue it again.
        if signal != Signal::STOP && self.task.kernel().tasks.is_orphaned(group.process_group_id())
        {
            return;
        }
        let mut state = group.state.lock();
        // SIGCONT or SIGKILL may have come since the signal was taken from its queue.
        if state.exit.is_some() || state.signals.set().contains(Signal::CONT) {
            return;
        }
        if state.stop.is_none() {
            state.stop = Some(signal);
            state.stopped = false;
        }
        for thread in &state.threads {
            thread.interrupt();
        }
    }

    /// Stops if the group is stopping, and returns when it is continued or killed. False when there
    /// was nothing to do.
    pub(super) fn stop_with_group(&mut self) -> bool {
        let group = self.task.thread_group().clone();
        let signal = {
            let mut state = group.state.lock();
            let Some(signal) = state.stop.filter(|_| state.exit.is_none()) else {
                self.passed_stop = false;
                return false;
            };
            if self.passed_stop {
                return false;
            }
            self.task.set_run_state(RunState::Stopped);
            state.complete_stop();
            signal
        };
        self.tell_parent_of_stops();
        if self.trace_group_stop(signal) {
            self.passed_stop = group.state.lock().stop.is_some();
            self.task.set_run_state(RunState::Running);
            return true;
        }
        self.give_up_virtual_processor();
        loop {
            if self.task.must_die() || group.state.lock().stop.is_none() {
                break;
            }
            self.task.waker.parker().park(None);
        }
        self.task.set_run_state(RunState::Running);
        true
    }

    /// Sends the parent the notice that a stop or continuation left for some thread to send.
    pub(super) fn tell_parent_of_stops(&self) {
        let group = self.task.thread_group();
        let notice = {
            let mut state = group.state.lock();
            state.notify.take()
        };
        if let Some(code) = notice {
            group.tell_parent_of_stop(code);
        }
    }
}

impl GroupState {
    /// When all threads stand, the process is stopped.
    pub(in crate::kernel) fn complete_stop(&mut self) {
        let Some(signal) = self.stop else { return };
        let stands =
            |thread: &Task| matches!(thread.run_state(), RunState::Stopped | RunState::Traced);
        if !self.stopped && self.threads.iter().all(|thread| stands(thread)) {
            self.stopped = true;
            self.report = Some(StateReport::Stopped(signal));
            self.notify = Some(si_code::CLD_STOPPED);
        }
    }
}

impl ThreadGroup {
    /// SIGCHLD to the parent, unless it said SA_NOCLDSTOP; and whoever waits there looks again.
    fn tell_parent_of_stop(&self, code: i32) {
        if self.pid() == INIT && code == si_code::CLD_STOPPED {
            self.kernel().note_init_stopped();
        }
        let Some(parent) = self.kernel().tasks.process(self.ppid()) else { return };
        let action = parent.handlers().get(Signal::CHLD);
        if action.handler != linux_abi::signal::SigAction::IGN && action.flags & sa::NOCLDSTOP == 0
        {
            let status = match self.state.lock().report {
                Some(StateReport::Stopped(signal)) => signal.number(),
                _ => Signal::CONT.number(),
            };
            let _ = parent.send_signal(self.child_info(code, status));
        }
        parent.child_queue.wake(EventMask::READABLE);
    }

    /// The details of SIGCHLD.
    pub(in crate::kernel) fn child_info(&self, code: i32, status: i32) -> SigInfo {
        const NS_PER_TICK: u64 = 10_000_000;
        let times = self.cpu_times();
        let uid = self.leader().map_or(0, |leader| leader.cred().uid);
        let ticks = |ns: u64| (ns / NS_PER_TICK) as i64;
        SigInfo::child(code, self.pid(), uid, status, ticks(times.user_ns), ticks(times.system_ns))
    }
}
