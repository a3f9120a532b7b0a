//! What the guest may do is in [`profiles`]; the rest is about the host.
//!
//! What the host kernel may be asked by each of Lazaret's own processes: seccomp(2) filters, written down
//! as data in `seccomp/` and compiled when Lazaret is built.
//!
//! Each file has one or more stages, which are asked in the order of their names, and a policy is made of one file or two.
//! A rule names a call, the arguments that matter, and who makes it. Of a call that fits no rule, a stage says `log`,
//! which here means that the next stage is asked; the last one kills the process. Stages that refuse (`errno`) are
//! for what the C library tries and can do without: `clone3`, whose arguments no filter sees.
#![forbid(unsafe_code)]

pub mod profiles;

use seccompiler::{apply_filter_all_threads, sock_filter};

/// The filter of one role.
#[derive(Clone, Copy)]
pub struct Policy {
    program: &'static [sock_filter],
}

include!(concat!(env!("OUT_DIR"), "/policies.rs"));

impl Policy {
    /// Binds all threads of this process, now and later. There is no way back.
    ///
    /// # Errors
    /// When the kernel has no seccomp, or a thread has another filter already.
    pub fn install(&self) -> seccompiler::Result<()> {
        apply_filter_all_threads(self.program)
    }

    /// The program, for those who want to ask it.
    pub fn program(&self) -> &'static [sock_filter] {
        self.program
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({} instructions)", self.program.len())
    }
}
