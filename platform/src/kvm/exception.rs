//! What Linux makes of an exception of the processor (`arch/x86/kernel/traps.c`).

use crate::{AccessKind, ExceptionInfo, XState, vector};

/// `si_code`s.
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const FPE_FLTOVF: i32 = 4;
const FPE_FLTUND: i32 = 5;
const FPE_FLTRES: i32 = 6;
const FPE_FLTINV: i32 = 7;
const ILL_ILLOPN: i32 = 2;
const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const SI_KERNEL: i32 = 0x80;

/// Bits of a page fault's error code.
const CODE_WRITE: u64 = 2;
const CODE_FETCH: u64 = 16;

/// Offsets in the legacy area of extended state.
const FCW: usize = 0;
const FSW: usize = 2;
const MXCSR: usize = 24;

/// What a page fault was about.
pub(super) fn access(code: u64) -> AccessKind {
    match code {
        code if code & CODE_FETCH != 0 => AccessKind::Execute,
        code if code & CODE_WRITE != 0 => AccessKind::Write,
        _ => AccessKind::Read,
    }
}

/// Whether [`info`] wants the extended state.
pub(super) fn wants_xstate(vector: u64) -> bool {
    matches!(vector, vector::X87 | vector::SIMD)
}

/// `stepping`: a debug exception is a single step.
pub(super) fn info(
    vector: u64,
    error_code: u64,
    rip: u64,
    stepping: bool,
    xstate: Option<&XState>,
) -> ExceptionInfo {
    let (signal, code, addr) = match vector {
        vector::DIVIDE => (libc::SIGFPE, FPE_INTDIV, rip),
        vector::DEBUG if stepping => (libc::SIGTRAP, TRAP_TRACE, rip),
        vector::DEBUG => (libc::SIGTRAP, TRAP_BRKPT, rip),
        vector::BREAKPOINT => (libc::SIGTRAP, SI_KERNEL, 0),
        vector::INVALID => (libc::SIGILL, ILL_ILLOPN, rip),
        vector::SEGMENT_NOT_PRESENT | vector::STACK => (libc::SIGBUS, SI_KERNEL, 0),
        vector::X87 | vector::SIMD => (libc::SIGFPE, floating_point(vector, xstate), rip),
        vector::ALIGNMENT => (libc::SIGBUS, BUS_ADRALN, 0),
        _ => (libc::SIGSEGV, SI_KERNEL, 0),
    };
    ExceptionInfo { signal, code, addr, trapno: vector, error_code }
}

/// An access beyond the end of a mapped file.
pub(super) fn bus_error(addr: u64, error_code: u64) -> ExceptionInfo {
    let (signal, code) = (libc::SIGBUS, BUS_ADRERR);
    ExceptionInfo { signal, code, addr, trapno: vector::PAGE_FAULT, error_code }
}

/// The worst exception that is raised and not masked.
fn floating_point(vector: u64, xstate: Option<&XState>) -> i32 {
    let half = |at: usize| {
        let bytes = xstate.and_then(|state| state.bytes.get(at..at + 2));
        bytes.map_or(0, |bytes| u16::from_le_bytes(bytes.try_into().unwrap_or_default()))
    };
    let raised = if vector == vector::X87 {
        half(FSW) & !half(FCW)
    } else {
        half(MXCSR) & !(half(MXCSR) >> 7)
    };
    match raised {
        raised if raised & 1 != 0 => FPE_FLTINV,
        raised if raised & 4 != 0 => FPE_FLTDIV,
        raised if raised & 8 != 0 => FPE_FLTOVF,
        raised if raised & 0x12 != 0 => FPE_FLTUND,
        raised if raised & 0x20 != 0 => FPE_FLTRES,
        _ => 0,
    }
}
