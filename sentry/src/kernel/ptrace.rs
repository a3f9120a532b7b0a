//! ptrace(2) inside the sandbox.

use std::ops::ControlFlow;

use linux_abi::{SigInfo, Signal};

use super::{Capability, CurrentTask, Task, WaitRequest, WaitResult, seccomp::Verdict};
use crate::{
    Errno, SysResult,
    syscalls::{Outcome, table},
};

/// Who traces a task, and how.
#[derive(Debug, Default)]
pub(super) struct TraceState {}

impl TraceState {
    pub(super) fn is_traced(&self) -> bool {
        false
    }
}

impl CurrentTask {
    /// May it look at the memory and state of `target` (`ptrace_may_access`)?
    pub fn may_ptrace(&self, target: &Task) -> bool {
        if std::ptr::eq(&**target.thread_group(), &**self.thread_group()) {
            return true;
        }
        let (own, other) = (self.cred(), target.cred());
        if own.has(Capability::SYS_PTRACE) {
            return true;
        }
        let same = [other.uid, other.euid, other.suid].iter().all(|&uid| uid == own.uid)
            && [other.gid, other.egid, other.sgid].iter().all(|&gid| gid == own.gid);
        same && own.permitted.contains(other.permitted) && target.thread_group().dumpable() == 1
    }

    pub(super) fn trace_check(&mut self) {}

    pub(super) fn trace_signal(
        &mut self,
        signal: Signal,
        info: SigInfo,
    ) -> Option<(Signal, SigInfo)> {
        Some((signal, info))
    }

    pub(super) fn trace_new_child(&self, _child: &Task, _flags: u64) {}

    pub(super) fn trace_started(&mut self) {}

    /// A tracee that is no child, and has something to report to this tracer.
    pub(super) fn look_for_tracee(
        &mut self,
        _request: &WaitRequest,
        _any: &mut bool,
    ) -> Option<WaitResult> {
        None
    }

    pub(super) fn trace_exec(&mut self) {}

    pub(super) fn trace_exit(&mut self) {}

    /// A call of a task that is traced, filtered or logged.
    #[cold]
    pub(super) fn syscall_slow(
        &mut self,
        number: u64,
        args: [u64; 6],
        compat: bool,
    ) -> ControlFlow<()> {
        self.refresh_slow_entry();
        let verdict = self.seccomp_verdict(number, &args);
        let result = match verdict {
            Verdict::Allow => self.dispatch_logged(number, &args, compat),
            Verdict::Result(result) => result,
            Verdict::Trace(_) => Err(Errno::ENOSYS.into()),
        };
        self.finish(number, args, result)
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
    pub(super) fn refresh_slow_entry(&mut self) {
        self.adopt_filters();
        self.slow_entry = self.seccomp_mode() != 0 || self.kernel().tracer.get().is_some();
    }
}
