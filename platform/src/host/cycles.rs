//! The processor's own clock, for what is timed too often to ask the kernel's.

#![allow(unsafe_code, reason = "an instruction that has no safe face")]

/// The time-stamp counter: cycles at a constant rate of some gigahertz, about alike on all processors.
pub(crate) fn cycles() -> u64 {
    // SAFETY: each x86-64 processor has the instruction, and Linux leaves it to programs unless one asked
    // to be refused it (PR_SET_TSC), which the sentry does not.
    unsafe { std::arch::x86_64::_rdtsc() }
}
