//! What the guest may do is in [`profiles`]; the rest is about the host.
//!
//! What the host kernel may be asked by each of Lazaret's own processes: seccomp(2) filters, written down
//! as data in `seccomp/` and compiled when Lazaret is built.
//!
//! The files of launcher, gofer and sentry are seccompiler's. Each has one or more stages, which are asked in the order of their names, and a policy is made of one file or two.
//! A rule names a call, the arguments that matter, and who makes it. Of a call that fits no rule, a stage says `log`,
//! which here means that the next stage is asked; the last one kills the process. Stages that refuse (`errno`) are
//! for what the C library tries and can do without: `clone3`, whose arguments no filter sees.
//!
//! The files of stub processes (`stub*`, `helper*`, `guest*`) say besides where calls come from: `from` one instruction or `within` one
//! page, and may hand calls over (`notify`). Addresses are by name. What becomes of a call that fits no rule is
//! `otherwise`: `trace` is ENOSYS, as nobody traces, unless a later filter says `notify`.
//!
//! A comment that begins with `seldom:` is of a rule for what a run of all tests need not do; each other one is used by
//! it (`used.py`).
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

/// The filter of threads in stub processes, which depends on addresses.
#[derive(Clone, Copy)]
pub struct StubPolicy {
    program: &'static [sock_filter],
    places: &'static [Place],
}

/// An instruction whose constant is to be added to a half of an address.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    name: &'static str,
    upper: bool,
}

impl StubPolicy {
    /// The program, with the addresses that `address` says; `None` where it does not know one.
    pub fn resolve(&self, address: impl Fn(&str) -> Option<u64>) -> Option<Vec<sock_filter>> {
        let mut program = self.program.to_vec();
        for Place { at, name, upper } in self.places {
            let address = address(name)?;
            let half = if *upper { address >> 32 } else { address };
            let insn = program.get_mut(*at)?;
            insn.k = insn.k.wrapping_add(half as u32);
        }
        Some(program)
    }
}

impl std::fmt::Debug for StubPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StubPolicy({} instructions)", self.program.len())
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({} instructions)", self.program.len())
    }
}
