//! The numbers of the processor's exceptions (AMD64 Architecture Programmer's Manual, volume 2, 8.2;
//! `arch/x86/include/asm/trapnr.h`). Guests see them as `trapno` in signal frames.

pub(crate) const DIVIDE: u64 = 0;
pub(crate) const DEBUG: u64 = 1;
pub(crate) const NMI: u64 = 2;
pub(crate) const BREAKPOINT: u64 = 3;
pub(crate) const OVERFLOW: u64 = 4;
pub(crate) const INVALID: u64 = 6;
pub(crate) const DOUBLE_FAULT: u64 = 8;
pub(crate) const SEGMENT_NOT_PRESENT: u64 = 11;
pub(crate) const STACK: u64 = 12;
pub(crate) const PROTECTION: u64 = 13;
pub(crate) const PAGE_FAULT: u64 = 14;
pub(crate) const X87: u64 = 16;
pub(crate) const ALIGNMENT: u64 = 17;
pub(crate) const MACHINE_CHECK: u64 = 18;
pub(crate) const SIMD: u64 = 19;
/// So many are the architecture's.
pub(crate) const COUNT: u64 = 32;
