//! The stub code as bytes, and the places in it that matter.

#![allow(unsafe_code, reason = "assembles the stub's code and takes the addresses of its labels")]

use std::{arch::global_asm, ptr::addr_of, slice};

use super::layout::*;

global_asm!(
    include_str!("blob.S"),
    TEXT = const TEXT,
    CONST = const CONST,
    ZYGOTE = const ZYGOTE,
    COMMAND = const COMMAND,
    COMMAND_SIZE = const COMMAND_SIZE,
    SLOT_SIZE = const SLOT_SIZE,
    DOORBELL = const DOORBELL,
    CLONE_PROCESS = const CLONE_PROCESS,
    CLONE_THREAD = const CLONE_THREAD,
    C_MAPPER_FILTER = const C_MAPPER_FILTER,
    C_GUEST_FILTER = const C_GUEST_FILTER,
    C_CONTROL_FD = const C_CONTROL_FD,
    C_SECCOMP_FLAGS = const C_SECCOMP_FLAGS,
    C_PTRACE = const C_PTRACE,
    Z_SEQ = const Z_SEQ,
    Z_DONE = const Z_DONE,
    Z_READY = const Z_READY,
    Z_PIDFD = const Z_PIDFD,
    Z_COMMAND_OFFSET = const Z_COMMAND_OFFSET,
    Z_SLOT = const Z_SLOT,
    Z_SLOT_OFFSET = const Z_SLOT_OFFSET,
    Z_RESULT = const Z_RESULT,
    Z_OPTIONAL = const Z_OPTIONAL,
    Z_UNMAP = const Z_UNMAP,
    Z_UNMAP_LEN = const Z_UNMAP_LEN,
    M_SEQ = const M_SEQ,
    M_NEVER = const M_NEVER,
    M_SLOT = const M_SLOT,
    M_SLOT_OFFSET = const M_SLOT_OFFSET,
    M_ALTSTACK = const M_ALTSTACK,
    M_BATCH_SEQ = const M_BATCH_SEQ,
    M_BATCH_LEN = const M_BATCH_LEN,
    M_ACK_FD = const M_ACK_FD,
    C_ACKS = const C_ACKS,
    ACK_COUNT = const ACK_COUNT,
    S_BORN = const S_BORN,
    S_MAPPER = const S_MAPPER,
    S_SPAWN_ERROR = const S_SPAWN_ERROR,
    S_SPAWN_ERROR_SEQ = const S_SPAWN_ERROR_SEQ,
    S_FS_BASE = const S_FS_BASE,
    S_GS_BASE = const S_GS_BASE,
);

unsafe extern "C" {
    static lazaret_stub_start: u8;
    static lazaret_stub_end: u8;
    static lazaret_stub_relocate: u8;
    static lazaret_stub_zygote: u8;
    static lazaret_stub_handler: u8;
    static lazaret_stub_after_doorbell: u8;
    static lazaret_stub_after_sigreturn: u8;
    static lazaret_stub_unborn: u8;
    static lazaret_stub_unborn_end: u8;
    fn lazaret_rseq_offset() -> *const isize;
}

/// The code.
pub(super) fn code() -> &'static [u8] {
    let start = addr_of!(lazaret_stub_start);
    let len = offset(addr_of!(lazaret_stub_end)) as usize;
    // SAFETY: the two labels enclose constant bytes of this program's image.
    unsafe { slice::from_raw_parts(start, len) }
}

fn offset(label: *const u8) -> u64 {
    label.addr().wrapping_sub(addr_of!(lazaret_stub_start).addr()) as u64
}

/// Offset of the code that a new-born zygote runs first.
pub(super) fn relocate() -> u64 {
    offset(addr_of!(lazaret_stub_relocate))
}

/// Where the zygote goes on, in a stub process.
pub(super) fn zygote() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_zygote))
}

/// The signal handler, in a stub process.
pub(super) fn handler() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_handler))
}

/// The instruction pointer which a notification of the handler's doorbell shows.
pub(crate) fn after_doorbell() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_after_doorbell))
}

/// The instruction pointer which the filter sees for the handler's `rt_sigreturn`.
pub(crate) fn after_sigreturn() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_after_sigreturn))
}

/// Where guest threads are that wait for a tracer. A thread without one is put at the
/// start, with the address of the command page in `r12`.
pub(crate) fn unborn() -> std::ops::Range<u64> {
    TEXT + offset(addr_of!(lazaret_stub_unborn))..TEXT + offset(addr_of!(lazaret_stub_unborn_end))
}

/// The calling thread's restartable-sequences area, when the C library has one.
pub(super) fn rseq_area() -> Option<u64> {
    // SAFETY: the function only loads an address from the GOT.
    let offset = unsafe { lazaret_rseq_offset() };
    if offset.is_null() {
        return None;
    }
    let thread_pointer: u64;
    // SAFETY: the x86-64 ABI keeps the thread pointer's own address at fs:0.
    unsafe { std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly)) };
    // SAFETY: `__rseq_offset` is a constant of glibc once the program runs.
    let offset = unsafe { offset.read() };
    Some(thread_pointer.wrapping_add_signed(offset as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_fits_its_place() {
        assert!(code().len() as u64 <= 4096, "{}", code().len());
        assert!(after_sigreturn() > after_doorbell() && after_doorbell() > handler());
    }
}
