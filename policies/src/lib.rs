//! What the host kernel may be asked by each of Lazaret's own processes: seccomp(2) filters, written down
//! as data in `seccomp/` and compiled when Lazaret is built.
//!
//! A file has a filter `threads`, which lists the calls a role makes, each with the arguments that matter and
//! who makes it; all else kills the process. A second one makes `clone3` fail, whose arguments no filter sees.
#![forbid(unsafe_code)]

use seccompiler::{apply_filter, apply_filter_all_threads, sock_filter};

/// The filters of one role, in the order in which they are put in force: the one that allows the least, and no
/// further filters, comes last.
#[derive(Clone, Copy)]
pub struct Policy {
    filters: &'static [&'static [sock_filter]],
}

include!(concat!(env!("OUT_DIR"), "/policies.rs"));

impl Policy {
    /// Binds all threads of this process, now and later. There is no way back.
    ///
    /// # Errors
    /// When the kernel has no seccomp, or a thread has another filter already.
    pub fn install(&self) -> seccompiler::Result<()> {
        self.filters.iter().try_for_each(|filter| apply_filter_all_threads(filter))
    }

    /// Binds this thread and those that it will make.
    ///
    /// # Errors
    /// When the kernel has no seccomp.
    pub fn install_on_this_thread(&self) -> seccompiler::Result<()> {
        self.filters.iter().try_for_each(|filter| apply_filter(filter))
    }

    /// The programs, for those who want to ask them.
    pub fn programs(&self) -> &'static [&'static [sock_filter]] {
        self.filters
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({} filters)", self.filters.len())
    }
}
