//! How a process ended.

use linux_abi::{Signal, signal::si_code};

/// An exit status, as wait4(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// `exit(code)`.
    Exited(u8),
    /// Ended by a signal. `core`: a core file was written.
    Signaled { signal: Signal, core: bool },
}

impl ExitStatus {
    /// The status word of wait4(2).
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => i32::from(code) << 8,
            Self::Signaled { signal, core } => signal.number() | if core { 0x80 } else { 0 },
        }
    }

    /// `si_code` and `si_status` for SIGCHLD and waitid(2).
    pub fn code_and_status(self) -> (i32, i32) {
        match self {
            Self::Exited(code) => (si_code::CLD_EXITED, i32::from(code)),
            Self::Signaled { signal, core: false } => (si_code::CLD_KILLED, signal.number()),
            Self::Signaled { signal, core: true } => (si_code::CLD_DUMPED, signal.number()),
        }
    }
}
