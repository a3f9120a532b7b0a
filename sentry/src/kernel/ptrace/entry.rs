//! System calls that do not take the fast path: traced, filtered or logged.

use std::ops::ControlFlow;

use linux_abi::{SigInfo, Signal};

use super::{
    About, Mode, Options,
    stops::{EVENT_SECCOMP, StopKind},
};
use crate::{
    Errno, Restart, SysError, SysResult,
    kernel::{CurrentTask, seccomp::Verdict},
    syscalls::{Outcome, table},
};

/// The result of an interrupted call as a tracer sees it (`include/linux/errno.h`).
const fn restart_value(restart: Restart) -> u64 {
    let number: i64 = match restart {
        Restart::IfSaRestart => 512,
        Restart::Always => 513,
        Restart::NoHandler => 514,
        Restart::Block => 516,
    };
    number.wrapping_neg() as u64
}

impl CurrentTask {
    /// A call of a task that is traced, filtered or logged.
    #[cold]
    pub(in crate::kernel) fn syscall_slow(
        &mut self,
        mut number: u64,
        mut args: [u64; 6],
        compat: bool,
    ) -> ControlFlow<()> {
        self.refresh_slow_entry();
        let mut skip = false;
        if self.stops_at_calls() {
            skip = self.stop_at_entry(&mut number, &mut args);
            if self.task.must_die() {
                return self.finish(number, args, Ok(Outcome::RegistersSet));
            }
        }
        let result = if skip {
            Ok(Outcome::RegistersSet)
        } else {
            match self.seccomp_verdict(number, &args) {
                Verdict::Allow => self.dispatch_logged(number, &args, compat),
                Verdict::Result(result) => result,
                Verdict::Trace(data) => self.traced_by_filter(number, args, data, compat),
            }
        };
        let result = if self.stops_at_calls() { self.stop_at_exit(result) } else { result };
        self.finish(number, args, result)
    }

    fn stops_at_calls(&self) -> bool {
        self.is_traced() && self.task.trace.trace.lock().mode == Mode::Syscall
    }

    fn syscall_stop(&mut self, about: About) {
        let good = self.task.trace.trace.lock().options.contains(Options::SYSGOOD);
        let code = if good { libc::SIGTRAP | 0x80 } else { libc::SIGTRAP };
        let info = SigInfo::from_user(Signal::TRAP, code, self.pid(), self.cred_ref().uid);
        let signal = self.trace_stop(code, info, about, StopKind::Plain);
        // A signal given here is sent, as if by the tracer.
        if let Some(signal) = signal.and_then(Signal::new) {
            let _ = self.task.send_signal(SigInfo::from_user(signal, 0, self.pid(), 0));
        }
    }

    /// True: the tracer does not want the call done.
    fn stop_at_entry(&mut self, number: &mut u64, args: &mut [u64; 6]) -> bool {
        self.context.set_return(Errno::ENOSYS.to_return());
        self.syscall_stop(About::Entry { number: *number, args: *args });
        self.take_changed_call(number, args)
    }

    /// The call as the tracer left it in the registers.
    fn take_changed_call(&mut self, number: &mut u64, args: &mut [u64; 6]) -> bool {
        let Ok(regs) = self.context.registers() else { return false };
        *number = regs.orig_rax;
        *args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        regs.orig_rax as i32 == -1
    }

    fn stop_at_exit(&mut self, result: SysResult<Outcome>) -> SysResult<Outcome> {
        let value = match result {
            Ok(Outcome::Exit) => return result,
            Ok(Outcome::RegistersSet) => None,
            Ok(Outcome::Return(value)) => Some(value),
            Err(SysError::Errno(errno)) => Some(errno.to_return()),
            Err(SysError::Restart(restart)) => Some(restart_value(restart)),
        };
        if let Some(value) = value {
            self.context.set_return(value);
        }
        let shown = match value {
            Some(value) => value,
            None => self.context.registers().map_or(0, |regs| regs.rax),
        };
        self.syscall_stop(About::Exit { value: shown });
        let after = self.context.registers().map_or(shown, |regs| regs.rax);
        if after == shown { result } else { Ok(Outcome::RegistersSet) }
    }

    /// SECCOMP_RET_TRACE.
    fn traced_by_filter(
        &mut self,
        mut number: u64,
        mut args: [u64; 6],
        data: u32,
        compat: bool,
    ) -> SysResult<Outcome> {
        let wanted = self.is_traced() && {
            let mut trace = self.task.trace.trace.lock();
            trace.message = data.into();
            trace.options.contains(Options::SECCOMP)
        };
        if !wanted {
            return Err(Errno::ENOSYS.into());
        }
        let code = libc::SIGTRAP | EVENT_SECCOMP << 8;
        let info = SigInfo::from_user(Signal::TRAP, code, self.pid(), self.cred_ref().uid);
        self.trace_stop(code, info, About::Seccomp { number, args, data }, StopKind::Plain);
        if self.take_changed_call(&mut number, &mut args) {
            return Ok(Outcome::RegistersSet);
        }
        self.dispatch_logged(number, &args, compat)
    }

    fn dispatch_logged(
        &mut self,
        number: u64,
        args: &[u64; 6],
        compat: bool,
    ) -> SysResult<Outcome> {
        let Some(tracer) = self.kernel().tracer.get().cloned() else {
            return self.dispatch(number, args, compat);
        };
        let entry = table::entry(number);
        tracer.enter(self, number, entry, args);
        let result = self.dispatch(number, args, compat);
        tracer.exit(self, number, entry, args, &result);
        result
    }

    /// Whether calls take the slow way.
    pub(in crate::kernel) fn refresh_slow_entry(&mut self) {
        self.adopt_filters();
        self.slow_entry =
            self.is_traced() || self.seccomp_mode() != 0 || self.kernel().tracer.get().is_some();
        self.refresh_answers();
    }

    /// Says what the platform may answer by itself: nothing while calls take the slow way.
    pub(in crate::kernel) fn refresh_answers(&mut self) {
        let answers = (!self.slow_entry).then(|| {
            let cred = self.cred_ref();
            let [pid, tid] = [self.task.pid(), self.task.tid()].map(|id| id as u32);
            platform::Answers {
                ids: [pid, tid, cred.uid, cred.gid, cred.euid, cred.egid],
                // Who yields lets another thread have its virtual processor.
                yields: self.rseq.is_none(),
            }
        });
        self.context.set_answers(answers);
    }
}
