//! Where a tracee stops, and how it goes on.

use std::sync::atomic::Ordering;

use linux_abi::{
    SigInfo, Signal,
    signal::{SigAction, sa, si_code},
};

use super::{About, Command, Mode, Options, Stop, Trace};
use crate::{
    kernel::{CurrentTask, ExitStatus, RunState, Task, ThreadGroup},
    wait::EventMask,
};

const EVENT_FORK: i32 = 1;
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_VFORK_DONE: i32 = 5;
const EVENT_EXIT: i32 = 6;
pub(super) const EVENT_SECCOMP: i32 = 7;
const EVENT_STOP: i32 = 128;

/// What ends a stop besides the tracer's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopKind {
    /// Death.
    Plain,
    /// Death, and SIGCONT after PTRACE_LISTEN.
    Group,
    /// Nothing: the task is dying already.
    Exit,
}

/// SIGTRAP with an event.
fn event_code(event: i32) -> i32 {
    libc::SIGTRAP | event << 8
}

impl CurrentTask {
    /// Stops, tells the tracer, and waits for its command; the signal to go on with. `None`: it is
    /// not traced (any more), or dying.
    pub(super) fn trace_stop(
        &mut self,
        code: i32,
        info: SigInfo,
        about: About,
        kind: StopKind,
    ) -> Option<i32> {
        let registers = *self.context.registers().ok()?;
        let xstate = self.context.xstate().ok()?.clone();
        let _ = self.context.set_single_step(false);
        let task = self.task.clone();
        let tracer = {
            let mut trace = task.trace.trace.lock();
            let (_, pid) = trace.tracer?;
            let stop = Stop {
                code,
                info,
                about,
                registers,
                xstate,
                rseq: self.rseq_registration(),
                unreported: true,
                listening: false,
            };
            trace.stop = Some(stop);
            trace.command = None;
            // The state is for those who look under the lock, and for /proc.
            task.set_run_state(RunState::Traced);
            pid
        };
        task.tell_tracer(tracer, code & 0xff, si_code::CLD_TRAPPED);
        let signal = self.wait_for_command(&task, kind);
        task.set_run_state(RunState::Running);
        let (stop, mode, changed) = {
            let mut trace = task.trace.trace.lock();
            (trace.stop.take(), trace.mode, std::mem::take(&mut trace.changed_info))
        };
        let stop = stop?;
        self.changed_info = changed.then_some(stop.info);
        if let Ok(regs) = self.context.registers() {
            *regs = stop.registers;
        }
        if let Ok(xstate) = self.context.xstate() {
            *xstate = stop.xstate;
        }
        if mode == Mode::SingleStep {
            // The step after a system call must not go into a detour.
            let _ = self.mm.stop_rewriting();
            let _ = self.context.set_single_step(true);
        }
        self.refresh_slow_entry();
        signal
    }

    fn wait_for_command(&self, task: &Task, kind: StopKind) -> Option<i32> {
        self.give_up_virtual_processor();
        loop {
            if task.must_die() && kind != StopKind::Exit {
                return None;
            }
            let mut trace = task.trace.trace.lock();
            match trace.command.take() {
                Some(Command::Resume { signal }) => return Some(signal),
                Some(Command::Listen) => {
                    if let Some(stop) = &mut trace.stop {
                        stop.listening = true;
                    }
                }
                None => {}
            }
            let listening = trace.stop.as_ref().is_some_and(|stop| stop.listening);
            drop(trace);
            if kind == StopKind::Group
                && listening
                && task.thread_group().state.lock().stop.is_none()
            {
                // SIGCONT: back to the tracer with a new event.
                return Some(0);
            }
            task.waker.parker().park(None);
        }
    }

    /// An event the tracer asked for by `option`.
    fn trace_event(&mut self, option: Options, event: i32, message: u64) -> bool {
        if !self.is_traced() {
            return false;
        }
        {
            let mut trace = self.task.trace.trace.lock();
            if !trace.options.contains(option) {
                return false;
            }
            trace.message = message;
        }
        let info = trap_info(self, event_code(event));
        let kind = if event == EVENT_EXIT { StopKind::Exit } else { StopKind::Plain };
        self.trace_stop(event_code(event), info, About::Other, kind);
        true
    }

    /// Before signals are looked at: PTRACE_INTERRUPT.
    pub(in crate::kernel) fn trace_check(&mut self) {
        if !self.is_traced() {
            return;
        }
        let wanted = std::mem::take(&mut self.task.trace.trace.lock().interrupt);
        if wanted {
            let info = trap_info(self, event_code(EVENT_STOP));
            self.trace_stop(event_code(EVENT_STOP), info, About::Other, StopKind::Plain);
        }
    }

    /// A signal is about to be delivered: the tracer may drop or change it.
    pub(in crate::kernel) fn trace_signal(
        &mut self,
        signal: Signal,
        info: SigInfo,
    ) -> Option<(Signal, SigInfo)> {
        if !self.is_traced() || signal == Signal::KILL {
            return Some((signal, info));
        }
        let tracer = self.task.tracer_tid();
        let injected = self.trace_stop(signal.number(), info, About::Other, StopKind::Plain);
        if self.task.must_die() {
            return None;
        }
        let injected = match injected {
            // The tracer was gone before there was a stop.
            None => return Some((signal, info)),
            Some(number) => Signal::new(number)?,
        };
        if injected == signal {
            return Some((signal, self.changed_info.take().unwrap_or(info)));
        }
        Some((injected, SigInfo::from_user(injected, si_code::USER, tracer, 0)))
    }

    /// The group is stopping and the task is traced. True: it stood, and the tracer let it go on.
    pub(in crate::kernel) fn trace_group_stop(&mut self, signal: Signal) -> bool {
        if !self.is_traced() {
            return false;
        }
        let seized = self.task.trace.trace.lock().seized;
        let code = if seized { signal.number() | EVENT_STOP << 8 } else { signal.number() };
        let info = SigInfo::new(signal, code);
        let _ = self.trace_stop(
            code,
            info,
            About::Other,
            if seized { StopKind::Group } else { StopKind::Plain },
        );
        true
    }

    /// execve is done.
    pub(in crate::kernel) fn trace_exec(&mut self, former_tid: i32) {
        if !self.is_traced() || self.trace_event(Options::EXEC, EVENT_EXEC, former_tid as u64) {
            return;
        }
        if !self.task.trace.trace.lock().seized {
            let (pid, uid) = (self.pid(), self.cred_ref().uid);
            let info = SigInfo::from_user(Signal::TRAP, si_code::USER, pid, uid);
            let _ = self.task.send_signal(info);
        }
    }

    /// The task is about to end with its `exit_code`.
    pub(in crate::kernel) fn trace_exit(&mut self) {
        let status = self.exit_code.wait_status() as u64;
        // A process that is killed by others does not stop any more.
        if self.is_traced() && matches!(self.exit_code, ExitStatus::Exited(_)) {
            self.trace_event(Options::EXIT, EVENT_EXIT, status);
        }
        let all: Vec<_> = self.kernel().tasks.lock().tasks().cloned().collect();
        super::tracer_ends(&self.task, &all);
    }

    /// Which event the making of a child is, if the tracer wants it.
    fn clone_event(&self, flags: u64, exit_signal: i32) -> Option<(Options, i32)> {
        const VFORK: u64 = libc::CLONE_VFORK as u64;
        const UNTRACED: u64 = libc::CLONE_UNTRACED as u64;
        if !self.is_traced() || flags & UNTRACED != 0 {
            return None;
        }
        Some(if flags & VFORK != 0 {
            (Options::VFORK, EVENT_VFORK)
        } else if exit_signal == libc::SIGCHLD {
            (Options::FORK, EVENT_FORK)
        } else {
            (Options::CLONE, EVENT_CLONE)
        })
    }

    /// A child was made and does not run yet: it may be traced from the start.
    pub(in crate::kernel) fn trace_new_child(&self, child: &Task, flags: u64, exit_signal: i32) {
        const PTRACE: u64 = libc::CLONE_PTRACE as u64;
        let Some((option, _)) = self.clone_event(flags, exit_signal) else { return };
        let (tracer, seized, options) = {
            let trace = self.task.trace.trace.lock();
            if !trace.options.contains(option) && flags & PTRACE == 0 {
                return;
            }
            (trace.tracer, trace.seized, trace.options)
        };
        *child.trace.trace.lock() =
            Trace { tracer, seized, options, interrupt: seized, ..Trace::default() };
        child.trace.traced.store(true, Ordering::SeqCst);
        if !seized {
            let mut queue = child.signals.lock();
            queue.push(Signal::STOP, SigInfo::from_user(Signal::STOP, si_code::USER, 0, 0));
            child.pending.store(queue.set().0, Ordering::SeqCst);
        }
        child.interrupt();
    }

    /// The child runs: the parent's event.
    pub(in crate::kernel) fn trace_cloned(&mut self, child: i32, flags: u64, exit_signal: i32) {
        if let Some((option, event)) = self.clone_event(flags, exit_signal) {
            self.trace_event(option, event, child as u64);
        }
    }

    /// vfork's child has left our memory.
    pub(in crate::kernel) fn trace_vfork_done(&mut self, child: i32) {
        self.trace_event(Options::VFORKDONE, EVENT_VFORK_DONE, child as u64);
    }
}

/// The details of an event.
fn trap_info(task: &CurrentTask, code: i32) -> SigInfo {
    SigInfo::from_user(Signal::TRAP, code, task.pid(), task.cred_ref().uid)
}

impl Task {
    /// SIGCHLD to the tracer, and whoever waits there looks.
    fn tell_tracer(&self, tracer: i32, status: i32, code: i32) {
        let Some(tracer) = self.kernel().tasks.process(tracer) else { return };
        tell(&tracer, self, status, code);
    }
}

fn tell(tracer: &ThreadGroup, task: &Task, status: i32, code: i32) {
    let action = tracer.handlers().get(Signal::CHLD);
    if action.handler != SigAction::IGN && action.flags & sa::NOCLDSTOP == 0 {
        let uid = task.cred().uid;
        let _ = tracer.send_signal(SigInfo::child(code, task.tid(), uid, status, 0, 0));
    }
    tracer.child_queue.wake(EventMask::READABLE);
}
