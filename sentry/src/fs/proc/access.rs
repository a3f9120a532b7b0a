//! Who may look into a process (ptrace(2), "Ptrace access mode checking").

use crate::{
    SysResult, err,
    kernel::{Capability, Credentials, Task, served},
};

/// How deep the look goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// PTRACE_MODE_READ_FSCREDS.
    Read,
    /// PTRACE_MODE_ATTACH_FSCREDS.
    Attach,
}

/// May the calling task look into `target`? The sentry's own threads may.
pub(super) fn may_look(target: &Task, _look: Look) -> bool {
    let Some(caller) = served() else { return true };
    if caller.pid() == target.pid() {
        return true;
    }
    allowed(&caller.cred(), &target.cred(), target.thread_group().dumpable() == 1)
}

/// `__ptrace_may_access`, without the part about security modules.
fn allowed(caller: &Credentials, target: &Credentials, is_dumpable: bool) -> bool {
    if caller.has(Capability::SYS_PTRACE) {
        return true;
    }
    let (uid, gid) = (caller.fsuid, caller.fsgid);
    let same = [target.uid, target.euid, target.suid].iter().all(|&id| id == uid)
        && [target.gid, target.egid, target.sgid].iter().all(|&id| id == gid);
    same && is_dumpable && caller.permitted.contains(target.permitted)
}

/// As [`may_look`], or `EACCES`.
pub(super) fn check(target: &Task, look: Look) -> SysResult<()> {
    if may_look(target, look) { Ok(()) } else { err!(EACCES) }
}
