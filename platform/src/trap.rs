//! Why guest code stopped.

/// Why [`crate::Context::switch`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A system-call instruction. `number` is `rax` as the kernel reads it
    /// (`orig_rax`). `compat` is set for the 32-bit entries (`int 0x80`).
    Syscall { number: u64, args: [u64; 6], compat: bool },
    /// A page fault at `addr`, which the sentry may resolve by mapping the page.
    /// When it does not, it becomes SIGSEGV or SIGBUS.
    Fault { addr: u64, access: AccessKind },
    /// A CPU exception other than a page fault, as the signal Linux makes of it.
    Exception(ExceptionInfo),
    /// Nothing happened: a kick, or a signal from outside.
    Interrupted,
}

/// What the faulting instruction tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Read,
    Write,
    Execute,
}

/// What goes into `siginfo_t` for a CPU exception (sigaction(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceptionInfo {
    /// SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// CPU vector and error code, for the signal frame (`trapno`, `err`).
    pub trapno: u64,
    pub error_code: u64,
}
