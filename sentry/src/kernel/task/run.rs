//! The loop a host thread runs for its guest thread.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use linux_abi::{Errno, SigInfo, Signal, signal::si_code};
use platform::{AccessKind, Context, PlatformError, Registers, Trap, XState};

use super::Task;
use crate::{
    Restart, SysError, SysResult,
    kernel::{CurrentTask, ExitStatus, served::note_call, set_served},
    syscalls::{Outcome, table},
};

/// What a new task starts with.
pub(in crate::kernel) struct Start {
    pub(in crate::kernel) task: Arc<Task>,
    /// `None`: the task begins with execve (init).
    pub(in crate::kernel) registers: Registers,
    pub(in crate::kernel) xstate: Option<XState>,
    /// Set up by the parent and completed on the child's own thread.
    pub(in crate::kernel) prepare: Box<dyn FnOnce(&mut CurrentTask) + Send>,
}

/// A system call that was interrupted: what it was, and when it starts again.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Interrupted {
    pub(in crate::kernel) number: u64,
    pub(in crate::kernel) args: [u64; 6],
    pub(in crate::kernel) restart: Restart,
}

/// What to do after a look at signals and stops.
pub(in crate::kernel) enum Next {
    /// Enter guest code.
    Guest,
    /// Do the interrupted call again, without entering guest code in between.
    Again(Interrupted),
    /// The task is ending.
    Exit,
}

/// Starts the task on a host thread. `EAGAIN` when the host has no thread for it.
pub(in crate::kernel) fn spawn(start: Start) -> Result<(), Errno> {
    let kernel = start.task.kernel().clone();
    kernel.tasks.note_thread_started();
    kernel.host_threads.serve(start).inspect_err(|_| kernel.tasks.note_thread_ended())
}

/// The whole life of a task, on its host thread.
pub(super) fn serve(start: Start) {
    let Start { task, registers, xstate, prepare } = start;
    set_served(Some(task.clone()));
    task.clock_start();
    let current = new_context(&task, registers, xstate)
        .inspect_err(|error| fail(&task, error))
        .ok()
        .and_then(|context| CurrentTask::new(task.clone(), context));
    match current {
        Some(mut current) => {
            prepare(&mut current);
            current.refresh_slow_entry();
            current.run();
            current.exit();
        }
        None => {
            task.thread_group().kill();
            task.abandon();
        }
    }
    set_served(None);
    task.kernel().note_task_gone();
}

fn new_context(
    task: &Arc<Task>,
    registers: Registers,
    xstate: Option<XState>,
) -> Result<Box<dyn Context>, PlatformError> {
    let gone = || PlatformError::StubDied("the task ended before it began".to_owned());
    let mm = task.memory().ok_or_else(gone)?;
    let mut context = mm.space().clone().new_context()?;
    *context.registers()? = registers;
    if let Some(xstate) = xstate {
        *context.xstate()? = xstate;
    }
    let _ = task.kick.set(context.kicker());
    fence(Ordering::SeqCst);
    Ok(context)
}

fn fail(task: &Task, error: &PlatformError) {
    if !task.thread_group().is_exiting() {
        tracing::error!(pid = task.pid(), tid = task.tid(), %error, "the process is killed");
    }
    task.thread_group().kill();
}

impl CurrentTask {
    /// Runs guest code until the task ends.
    fn run(&mut self) {
        loop {
            if self.task.waker.is_interrupted() {
                match self.handle_interrupts(None) {
                    Next::Guest => {}
                    Next::Again(call) => {
                        if self.redo(call).is_break() {
                            return;
                        }
                        continue;
                    }
                    Next::Exit => return,
                }
            }
            if self.rseq.is_some() && !self.enter_virtual_processor() {
                continue;
            }
            self.task.clock_enter_guest();
            let trap = self.context.switch();
            self.task.clock_leave_guest();
            if let Some(rseq) = &self.rseq {
                rseq.leave();
            }
            match trap {
                Ok(Trap::Syscall { number, args, compat }) => {
                    if let Some(site) = self.context.take_hot_site() {
                        self.mm.rewrite_call_site(site);
                    }
                    if self.syscall(number, args, compat).is_break() {
                        return;
                    }
                }
                Ok(Trap::Fault { addr, access }) => self.fault(addr, access),
                Ok(Trap::Exception(info)) => self.exception(&info),
                Ok(Trap::Interrupted) => self.task.waker.interrupt(),
                Err(error) => {
                    fail(&self.task, &error);
                    self.exit_code = ExitStatus::Signaled { signal: Signal::KILL, core: false };
                    return;
                }
            }
        }
    }

    /// Did the host end the process that runs this task's code? Memory that cannot be reached, or registers, are then
    /// the end of the process, which this makes sure of, and no fault of the program's.
    pub(in crate::kernel) fn has_lost_its_process(&mut self) -> bool {
        if self.mm.space().is_alive() {
            return false;
        }
        fail(&self.task, &PlatformError::StubDied("it is gone".to_owned()));
        true
    }

    fn fault(&mut self, addr: u64, access: AccessKind) {
        if let Err(fault) = self.mm.handle_fault(addr, access) {
            if self.has_lost_its_process() {
                return;
            }
            let signal = Signal::new(fault.signal).unwrap_or(Signal::SEGV);
            let info = SigInfo::fault(signal, fault.code, fault.addr);
            self.note_fault(addr, access);
            self.task.force_signal(info);
        }
    }

    fn exception(&mut self, trap: &platform::ExceptionInfo) {
        let signal = Signal::new(trap.signal).unwrap_or(Signal::SEGV);
        let mut info = SigInfo::fault(signal, trap.code, trap.addr);
        if signal == Signal::SEGV && trap.addr == 0 {
            // A general protection fault has no address.
            info = SigInfo::new(signal, si_code::KERNEL);
        }
        self.trap_numbers = (trap.trapno, trap.error_code, trap.addr);
        self.task.force_signal(info);
    }

    /// Does one call and everything up to the next entry into guest code but signals.
    #[inline]
    fn syscall(&mut self, number: u64, args: [u64; 6], compat: bool) -> ControlFlow<()> {
        // Filters that another thread put on this one come with an interrupt.
        if self.slow_entry || self.task.waker.is_interrupted() {
            return self.syscall_slow(number, args, compat);
        }
        let result = self.dispatch(number, &args, compat);
        self.finish(number, args, result)
    }

    /// Runs the handler of the call.
    #[inline]
    pub(in crate::kernel) fn dispatch(
        &mut self,
        number: u64,
        args: &[u64; 6],
        compat: bool,
    ) -> SysResult<Outcome> {
        note_call(number);
        if compat {
            return self.compat_call(number);
        }
        match table::entry(number).and_then(|entry| entry.run) {
            Some(run) => run(self, args),
            None => {
                self.task.kernel.note_unknown_call(number, self.task.pid());
                Err(Errno::ENOSYS.into())
            }
        }
    }

    /// The 32-bit entries: there is no 32-bit mode here (a kernel without CONFIG_IA32_EMULATION
    /// raises SIGSEGV; programs that probe expect an error).
    #[cold]
    fn compat_call(&mut self, number: u64) -> SysResult<Outcome> {
        tracing::debug!(number, "32-bit system call");
        Err(Errno::ENOSYS.into())
    }

    /// Puts the result where the guest finds it.
    #[inline]
    pub(in crate::kernel) fn finish(
        &mut self,
        number: u64,
        args: [u64; 6],
        result: SysResult<Outcome>,
    ) -> ControlFlow<()> {
        match result {
            Ok(Outcome::Return(value)) => self.context.set_return(value),
            Ok(Outcome::RegistersSet) => {}
            Ok(Outcome::Exit) => return ControlFlow::Break(()),
            Err(SysError::Errno(errno)) => {
                self.context.set_return(errno.to_return());
                if errno == Errno::EINTR && self.saved_mask.is_some() {
                    // Handlers run with the temporary mask first.
                    self.task.waker.interrupt();
                    return ControlFlow::Continue(());
                }
            }
            Err(SysError::Restart(restart)) => {
                return self.interrupted(Interrupted { number, args, restart });
            }
        }
        if let Some(mask) = self.saved_mask.take() {
            self.set_blocked(mask);
        }
        ControlFlow::Continue(())
    }

    #[cold]
    fn interrupted(&mut self, mut call: Interrupted) -> ControlFlow<()> {
        loop {
            self.context.set_return(Errno::EINTR.to_return());
            match self.handle_interrupts(Some(call)) {
                Next::Guest => return ControlFlow::Continue(()),
                Next::Exit => return ControlFlow::Break(()),
                Next::Again(again) => {
                    call = again;
                    let result = self.call_again(&call);
                    match result {
                        Err(SysError::Restart(restart)) => call.restart = restart,
                        other => return self.finish(call.number, call.args, other),
                    }
                }
            }
        }
    }

    fn redo(&mut self, call: Interrupted) -> ControlFlow<()> {
        let result = self.call_again(&call);
        self.finish(call.number, call.args, result)
    }

    fn call_again(&mut self, call: &Interrupted) -> SysResult<Outcome> {
        if call.restart == Restart::Block
            && let Some(block) = self.restart_block.take()
        {
            return block(self);
        }
        self.dispatch(call.number, &call.args, false)
    }
}

impl Task {
    /// Takes a task out of the books whose thread cannot go on: as `exit` does, but without
    /// touching its memory.
    fn abandon(&self) {
        if !self.is_exited() {
            self.leave(ExitStatus::Signaled { signal: Signal::KILL, core: false });
        }
    }
}
