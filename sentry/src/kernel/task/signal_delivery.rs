//! Looking at signals before guest code is entered (`get_signal` in `kernel/signal.c`).

use linux_abi::{
    SigInfo, SigSet, Signal,
    signal::{SigAction, sa},
};

use super::run::{Interrupted, Next};
use crate::{
    Errno, Restart,
    kernel::{CurrentTask, ExitStatus, signal::DefaultAction},
};

impl CurrentTask {
    /// Ends, stops, and delivers signals, until there is nothing left to do. `call`: the system call that
    /// was interrupted; it is done again unless a handler runs that says otherwise.
    #[cold]
    pub(in crate::kernel) fn handle_interrupts(&mut self, mut call: Option<Interrupted>) -> Next {
        loop {
            self.task.waker.clear_interrupt();
            if self.task.must_die() {
                return self.die();
            }
            self.tell_parent_of_stops();
            self.trace_check();
            if self.stop_with_group() {
                continue;
            }
            let wanted = self.task.blocked().complement();
            let Some((signal, info)) = self.dequeue_signal(wanted) else { break };
            let Some((signal, info)) = self.trace_signal(signal, info) else { continue };
            self.act_on(signal, info, &mut call);
        }
        self.refresh_slow_entry();
        if let Some(mask) = self.saved_mask.take() {
            self.set_blocked(mask);
        }
        match call {
            Some(call) => Next::Again(call),
            None => Next::Guest,
        }
    }

    /// The status the task ends with, and that it ends.
    fn die(&mut self) -> Next {
        let exit = self.task.thread_group().state.lock().exit;
        self.exit_code = exit.unwrap_or(ExitStatus::Exited(0));
        Next::Exit
    }

    /// As [`Task::take_signal`].
    pub(in crate::kernel) fn dequeue_signal(
        &mut self,
        wanted: SigSet,
    ) -> Option<(Signal, SigInfo)> {
        self.task.take_signal(wanted)
    }

    fn act_on(&mut self, signal: Signal, info: SigInfo, call: &mut Option<Interrupted>) {
        let group = self.task.thread_group().clone();
        let action = group.handlers().take_for_delivery(signal);
        match action.handler {
            SigAction::IGN => {}
            SigAction::DFL => match DefaultAction::of(signal) {
                DefaultAction::Ignore => {}
                DefaultAction::Stop => self.start_group_stop(signal),
                DefaultAction::Terminate | DefaultAction::Core => {
                    let status = ExitStatus::Signaled { signal, core: false };
                    group.begin_exit(&mut group.state.lock(), status);
                }
            },
            _ => {
                if let Some(call) = call.take() {
                    self.decide_restart(call, &action);
                }
                self.enter_handler(signal, &info, &action);
            }
        }
    }

    /// A handler runs: will the interrupted call start again when it returns?
    fn decide_restart(&mut self, call: Interrupted, action: &SigAction) {
        let again = match call.restart {
            Restart::Always => true,
            Restart::IfSaRestart => action.flags & sa::RESTART != 0,
            Restart::NoHandler | Restart::Block => false,
        };
        self.restart_block = None;
        if !again {
            return self.context.set_return(Errno::EINTR.to_return());
        }
        if let Ok(regs) = self.context.registers() {
            // Back on the instruction, with the number where it was: as the CPU will find it.
            regs.rip = regs.rip.wrapping_sub(2);
            regs.rax = call.number;
        }
    }

    /// Builds the frame; a stack that cannot take it is a SIGSEGV.
    fn enter_handler(&mut self, signal: Signal, info: &SigInfo, action: &SigAction) {
        let mask = self.saved_mask.take().unwrap_or(self.task.blocked());
        // What the frame shows is where a critical section begins anew.
        let pushed =
            self.update_rseq().and_then(|()| self.push_signal_frame(signal, info, action, mask));
        if pushed.is_err() {
            if self.has_lost_its_process() {
                return;
            }
            self.saved_mask = None;
            self.set_blocked(mask);
            let segv = SigInfo::kernel(Signal::SEGV);
            if signal == Signal::SEGV {
                self.task.force_fatal(segv);
            } else {
                self.task.force_signal(segv);
            }
            return;
        }
        let mut blocked = self.task.blocked().union(action.mask);
        if action.flags & sa::NODEFER == 0 {
            blocked = blocked.union(signal.set());
        }
        self.set_blocked(blocked);
    }

    /// Replaces the set of blocked signals. Signals of the process that this thread now blocks go to another,
    /// and those it no longer blocks are delivered before guest code runs again.
    pub fn set_blocked(&mut self, blocked: SigSet) {
        let task = &self.task;
        let newly = blocked.minus(task.blocked());
        task.set_blocked_raw(blocked);
        let group = task.thread_group();
        let given_up = newly.intersection(group.pending());
        if !given_up.is_empty() {
            let state = group.state.lock();
            for other in &state.threads {
                if !std::ptr::eq(&**other, &**task)
                    && !given_up.minus(other.blocked()).is_empty()
                    && !other.is_exited()
                {
                    other.interrupt();
                }
            }
        }
        if !task.deliverable().is_empty() {
            task.waker.interrupt();
        }
    }

    /// Blocks these signals until the current call ends: handlers which run because of them see the
    /// mask of before (ppoll, pselect, epoll_pwait, sigsuspend). Errors must reach the run loop as
    /// they are: `Restart` or `EINTR` keep the mask until handlers were called.
    pub fn set_temporary_mask(&mut self, mask: SigSet) {
        if self.saved_mask.is_none() {
            self.saved_mask = Some(self.task.blocked());
        }
        self.set_blocked(mask);
    }
}
