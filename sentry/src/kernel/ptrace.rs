//! ptrace(2) inside the sandbox.

use std::ops::ControlFlow;

use linux_abi::{SigInfo, Signal};

use super::{Capability, CurrentTask, Task, WaitRequest, WaitResult};

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
        let result = self.dispatch(number, &args, compat);
        self.finish(number, args, result)
    }

    pub(super) fn refresh_slow_entry(&mut self) {
        self.slow_entry = false;
    }
}
