//! A guest thread's register file (x86-64).

/// Segment selectors of 64-bit programs (`__USER_CS`, `__USER_DS`).
pub(crate) const CODE_64: u64 = 0x33;
pub(crate) const DATA: u64 = 0x2b;

/// General registers in the order of `struct user_regs_struct` (ptrace(2),
/// `arch/x86/include/asm/user_64.h`), so that PTRACE_GETREGS and core dumps can
/// use it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system-call number while in a system call, else -1.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// Those of a thread that has run nothing yet.
    pub(crate) fn fresh() -> Self {
        /// Interrupts on, and the bit that is always set.
        const EFLAGS: u64 = 0x202;
        Self { cs: CODE_64, ss: DATA, eflags: EFLAGS, orig_rax: u64::MAX, ..Self::default() }
    }
}

/// Extended state (x87, SSE, AVX, AVX-512 …) in the standard XSAVE format, as the
/// host kernel writes it behind a signal frame: the legacy 512 bytes with
/// `sw_reserved` filled in (`struct _fpx_sw_bytes`, `FP_XSTATE_MAGIC1`), the
/// XSAVE header, the components, and `FP_XSTATE_MAGIC2` at the end.
///
/// Copying it to and from a guest's signal frame needs no conversion. Contents that
/// a guest wrote are made harmless by the platform before the CPU loads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XState {
    /// The whole area, magic included.
    pub bytes: Vec<u8>,
}
