//! Who may send signals to whom (kill(2)).

use linux_abi::Signal;

use crate::kernel::{Capability, Credentials, Task};

/// `check_kill_permission` in `kernel/signal.c`. Threads of one process may always signal each
/// other; SIGCONT may go anywhere in the session.
pub fn may_kill(sender: &Task, target: &Task, signal: Option<Signal>) -> bool {
    std::ptr::eq(&**sender.thread_group(), &**target.thread_group())
        || ids_allow(&sender.cred(), &target.cred())
        || (signal == Some(Signal::CONT)
            && sender.thread_group().session_id() == target.thread_group().session_id())
}

fn ids_allow(sender: &Credentials, target: &Credentials) -> bool {
    sender.euid == target.suid
        || sender.euid == target.uid
        || sender.uid == target.suid
        || sender.uid == target.uid
        || sender.has(Capability::KILL)
}
