//! Timers of a process: setitimer(2), alarm(2), timer_create(2).

use std::sync::Weak;

use linux_abi::SigInfo;

use super::ThreadGroup;

/// See the module.
#[derive(Debug)]
pub struct ProcessTimers {
    _group: Weak<ThreadGroup>,
}

impl ProcessTimers {
    pub(super) fn new(group: Weak<ThreadGroup>) -> Self {
        Self { _group: group }
    }

    /// A timer's signal was taken from the queue: its overruns are known now.
    pub(super) fn delivered(&self, _info: &mut SigInfo) {}

    /// execve(2): POSIX timers go, interval timers stay.
    pub(super) fn delete_posix_timers(&self) {}

    /// None of them fires any more.
    pub(super) fn disarm_all(&self) {}
}
