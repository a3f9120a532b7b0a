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
    Z_PARENT = const Z_PARENT,
    Z_SELF = const Z_SELF,
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
    SLOTS_SHIFT = const SLOTS_SHIFT,
    SLOTS_TOP = const SLOTS >> SLOTS_SHIFT,
    C_CLOCK = const C_CLOCK,
    C_FEATURES = const C_FEATURES,
    S_STATE = const S_STATE,
    S_ATTENTIVE = const S_ATTENTIVE,
    S_HANDLER = const S_HANDLER,
    S_BACK = const S_BACK,
    S_NUMBER = const S_NUMBER,
    S_ANSWERS = const S_ANSWERS,
    S_KEPT = const S_KEPT,
    S_TIME = const S_TIME,
    S_REGISTERS = const S_REGISTERS,
    S_STACK_TOP = const S_STACK_TOP,
    S_XSTATE = const S_XSTATE,
    CALL_POSTED = const CALL_POSTED,
    CALL_RUNG = const CALL_RUNG,
    CALL_RESULT = const CALL_RESULT,
    CALL_SAVE = const CALL_SAVE,
    CALL_LOAD = const CALL_LOAD,
    CALL_LOAD_EXTENDED = const CALL_LOAD_EXTENDED,
    CALL_LOOKS = const CALL_LOOKS,
    ANSWER_CLOCK = const ANSWER_CLOCK,
    ANSWERS_ALL = const ANSWERS_ALL,
);

unsafe extern "C" {
    static lazaret_stub_start: u8;
    static lazaret_stub_end: u8;
    static lazaret_stub_relocate: u8;
    static lazaret_stub_zygote: u8;
    static lazaret_stub_handler: u8;
    static lazaret_stub_after_doorbell: u8;
    static lazaret_stub_after_sigreturn: u8;
    static lazaret_stub_call_refused: u8;
    static lazaret_stub_call: u8;
    static lazaret_stub_call_saved: u8;
    static lazaret_stub_call_answered: u8;
    static lazaret_stub_call_clock: u8;
    static lazaret_stub_call_clock_end: u8;
    static lazaret_stub_after_yield: u8;
    static lazaret_stub_after_call: u8;
    static lazaret_stub_call_left: u8;
    static lazaret_stub_call_loaded: u8;
    static lazaret_stub_call_end: u8;
    static lazaret_stub_answers: u8;
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

/// Where rewritten call sites jump to.
pub(crate) fn call_entry() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_call))
}

/// The instruction pointer which a notification of a call's doorbell shows.
pub(crate) fn after_call() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_after_call))
}

/// The instruction pointer which the filter sees for the stub's `sched_yield`.
pub(super) fn after_yield() -> u64 {
    TEXT + offset(addr_of!(lazaret_stub_after_yield))
}

/// How each call with a number below 256 is answered: 0 not at all, then by that word of the answers, from
/// [`ANSWER_CLOCK`] on by code of the stub's.
pub(crate) fn answer_words() -> &'static [u8] {
    // SAFETY: constant bytes of this program's image, as many as the table has.
    unsafe { slice::from_raw_parts(addr_of!(lazaret_stub_answers), 256) }
}

/// How far a call from a rewritten site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallPlace {
    /// Nothing is noted yet: `rax` and `rcx` are as the site left them.
    Entered,
    /// Number and place are noted in the slot; nothing has happened.
    Noted,
    /// As `Noted`, and registers are in the slot which the host's vDSO may change.
    InClock,
    /// `rax` is the result; to go on behind the site's call.
    Answered,
    /// About to leave to `rcx` with the result.
    Left,
    /// All registers are loaded but `rip`, which is in the slot.
    Loaded,
}

/// What a thread does at `rip`, when it is on the way of a call.
pub(crate) fn call_place(rip: u64) -> Option<CallPlace> {
    let at = rip.checked_sub(TEXT)?;
    let place = |label: *const u8| offset(label);
    if at < place(addr_of!(lazaret_stub_call_refused))
        || at >= place(addr_of!(lazaret_stub_call_end))
    {
        return None;
    }
    Some(if at < place(addr_of!(lazaret_stub_call_saved)) {
        CallPlace::Entered
    } else if at < place(addr_of!(lazaret_stub_call_answered)) {
        CallPlace::Noted
    } else if at < place(addr_of!(lazaret_stub_call_answered)) + ANSWERED_LEN {
        CallPlace::Answered
    } else if at >= place(addr_of!(lazaret_stub_call_clock))
        && at < place(addr_of!(lazaret_stub_call_clock_end))
    {
        CallPlace::InClock
    } else if at == place(addr_of!(lazaret_stub_call_left)) {
        CallPlace::Left
    } else if at == place(addr_of!(lazaret_stub_call_loaded)) {
        CallPlace::Loaded
    } else {
        CallPlace::Noted
    })
}

/// Bytes of `mov rcx, gs:[S_BACK]; add rcx, 2; jmp rcx`.
const ANSWERED_LEN: u64 = 9 + 4 + 2;

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
        // The jump that ends the answer.
        let end = call_entry() - TEXT;
        let answered = offset(addr_of!(lazaret_stub_call_answered)) + ANSWERED_LEN;
        assert!(answered > end);
        assert_eq!(code()[answered as usize - 2..answered as usize], [0xff, 0xe1]);
    }
}
