//! The code at ring 0, the same for all vCPUs: a few instructions for each way in and out.
//!
//! It has no data of its own, no loop but the one that clears page-table entries, and never touches guest
//! memory. Each way out is one OUT, whose port says what happened. What it answers itself is in `answering.rs`.

use super::{
    answering::{self, ANSWERING, Answering},
    layout::*,
};
use crate::vector;

/// Ports: exceptions by vector.
pub(super) const PORT_VECTOR: u16 = 0x40;
pub(super) const PORT_SYSCALL: u16 = 0x10;
pub(super) const PORT_COMPAT: u16 = 0x11;
pub(super) const PORT_INT80: u16 = 0x12;
pub(super) const PORT_CLEARED: u16 = 0x13;
pub(super) const PORT_UNEXPECTED: u16 = 0x14;

/// Of INT 0x80.
const VECTOR_INT80: u64 = 0x80;

/// Offsets in the code page.
const RESUME_LOAD: u64 = 0;
const RESUME: u64 = 4;
const RESUME_END: u64 = 6;
const CLEAR: u64 = 0x20;
const SYSCALL: u64 = 0x80;
const COMPAT: u64 = 0x90;
const INT80: u64 = 0xa0;
const UNEXPECTED: u64 = 0xb0;
const VECTOR: u64 = 0x100;

const BASE: u64 = SYSTEM_VA + CODE;
/// Loads CR3 from RAX, pops RAX, and goes on as [`RESUME_VA`].
pub(super) const RESUME_LOAD_VA: u64 = BASE + RESUME_LOAD;
/// Goes to ring 3 with the frame on the stack.
pub(super) const RESUME_VA: u64 = BASE + RESUME;
/// Carries out the commands at RSI, EDX of them.
pub(super) const CLEAR_VA: u64 = BASE + CLEAR;
/// LSTAR and CSTAR.
pub(super) const SYSCALL_VA: u64 = BASE + SYSCALL;
pub(super) const COMPAT_VA: u64 = BASE + COMPAT;

/// LSTAR of a vCPU that answers calls itself, whose way in has this number.
pub(super) fn answering_va(entry: u64) -> u64 {
    ENTRIES_VA + ENTRY_SIZE * entry + ANSWERING
}

/// What a vCPU that is stopped in the stub is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The guest has not run on yet.
    Resuming,
    /// It is about to leave by itself.
    Leaving,
    /// A system call is about to be answered, or to leave: nothing has happened.
    Called,
    /// The result of a system call is in RAX, to go on at RCX with the flags of R11.
    Answered,
    /// This is not the stub.
    Elsewhere,
}

/// What happens at `rip`.
pub(super) fn place(rip: u64) -> Place {
    let entries = ENTRIES_VA..ENTRIES_VA + ENTRY_SIZE * ENTRIES_MAX;
    let at = if entries.contains(&rip) { rip % ENTRY_SIZE } else { rip.wrapping_sub(BASE) };
    match at {
        ..RESUME_END => Place::Resuming,
        CLEAR..ANSWERING => Place::Leaving,
        ANSWERING..PAGE if at - ANSWERING < answering::len() => {
            match answering::place(at - ANSWERING) {
                Answering::NotYet => Place::Called,
                Answering::Leaving => Place::Leaving,
                Answering::Answered => Place::Answered,
            }
        }
        _ => Place::Elsewhere,
    }
}

/// OUT to `port`, and never on.
pub(super) fn leave(port: u16) -> [u8; 6] {
    // out %al, $port; hlt; jmp to the out
    [0xe6, port as u8, 0xf4, 0xeb, 0xfb, 0x90]
}

/// The code page.
pub(super) fn code() -> [u8; PAGE as usize] {
    // Whatever is not code traps.
    let mut page = [0xcc; PAGE as usize];
    let mut put = |at: u64, bytes: &[u8]| {
        if let Some(part) = page.get_mut(at as usize..at as usize + bytes.len()) {
            part.copy_from_slice(bytes);
        }
    };
    // mov %rax, %cr3; pop %rax; iretq
    put(RESUME_LOAD, &[0x0f, 0x22, 0xd8, 0x58, 0x48, 0xcf]);
    // cld; xor %eax, %eax; then for each: mov (%rsi), %rdi; mov 8(%rsi), %rcx; rep stosq;
    // add $16, %rsi; dec %edx; jnz
    let clear = [
        0xfc, 0x31, 0xc0, 0x48, 0x8b, 0x3e, 0x48, 0x8b, 0x4e, 0x08, 0xf3, 0x48, 0xab, 0x48, 0x83,
        0xc6, 0x10, 0xff, 0xca, 0x75, 0xee,
    ];
    put(CLEAR, &clear);
    put(CLEAR + clear.len() as u64, &leave(PORT_CLEARED));
    put(SYSCALL, &leave(PORT_SYSCALL));
    put(COMPAT, &leave(PORT_COMPAT));
    put(INT80, &leave(PORT_INT80));
    put(UNEXPECTED, &leave(PORT_UNEXPECTED));
    for vector in 0..vector::COUNT {
        let at = VECTOR + 16 * vector;
        let out = leave(PORT_VECTOR + vector as u16);
        if vector == vector::PAGE_FAULT {
            // push %rax; mov %cr2, %rax
            put(at, &[0x50, 0x0f, 0x20, 0xd0]);
            put(at + 4, &out);
        } else {
            put(at, &out);
        }
    }
    put(ANSWERING, &answering::code());
    page
}

/// The interrupt descriptor table: pairs of words.
pub(super) fn idt() -> [u64; 512] {
    let mut table = [0; 512];
    for (vector, gate) in (0u64..).zip(table.chunks_exact_mut(2)) {
        let (handler, ring, stack) = match vector {
            VECTOR_INT80 => (INT80, 3, 0),
            vector::BREAKPOINT | vector::OVERFLOW => (VECTOR + 16 * vector, 3, 0),
            vector::DEBUG | vector::NMI | vector::DOUBLE_FAULT | vector::MACHINE_CHECK => {
                (VECTOR + 16 * vector, 0, 1)
            }
            0..vector::COUNT => (VECTOR + 16 * vector, 0, 0),
            _ => (UNEXPECTED, 0, 0),
        };
        let address = BASE + handler;
        // An interrupt gate: present, type 14.
        let flags = 0x8e | ring << 5;
        let low = address & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | stack << 32
            | flags << 40
            | (address >> 16 & 0xffff) << 48;
        gate.copy_from_slice(&[low, address >> 32]);
    }
    table
}

/// Whether its frame is on the special stack, and has an error code.
pub(super) fn frame_kind(vector: u64) -> (bool, bool) {
    let special = matches!(
        vector,
        vector::DEBUG | vector::NMI | vector::DOUBLE_FAULT | vector::MACHINE_CHECK
    );
    (special, matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30))
}

/// A vCPU's descriptor table, whose task segment is at `tss`.
pub(super) fn gdt(tss: u64) -> [u64; 10] {
    let task = TSS_LIMIT | (tss & 0xff_ffff) << 16 | 0x8b << 40 | (tss >> 24 & 0xff) << 56;
    [
        0,
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_fb00_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        0,
        task,
        tss >> 32,
    ]
}

/// A vCPU's task segment, in words of 32 bits: the stacks, and no I/O permissions.
pub(super) fn tss(stack: u64, special: u64) -> [u32; 26] {
    let mut words = [0; 26];
    for (at, value) in [(1, stack), (9, special)] {
        words[at] = value as u32;
        words[at + 1] = (value >> 32) as u32;
    }
    words[25] = (TSS_LIMIT as u32 + 1) << 16;
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_out_is_one_out() {
        let code = code();
        for (at, port) in [
            (SYSCALL, PORT_SYSCALL),
            (COMPAT, PORT_COMPAT),
            (INT80, PORT_INT80),
            (UNEXPECTED, PORT_UNEXPECTED),
            (VECTOR + 16 * 13, PORT_VECTOR + 13),
            (VECTOR + 16 * vector::PAGE_FAULT + 4, PORT_VECTOR + 14),
        ] {
            assert_eq!(code[at as usize..][..2], [0xe6, port as u8]);
        }
    }

    #[test]
    fn places_are_told_by_address() {
        assert_eq!(place(RESUME_LOAD_VA), Place::Resuming);
        assert_eq!(place(CLEAR_VA), Place::Leaving);
        assert_eq!(place(SYSCALL_VA), Place::Leaving);
        assert_eq!(place(BASE + VECTOR), Place::Leaving);
        for entry in [0, ENTRIES_MAX - 1] {
            let start = answering_va(entry);
            assert_eq!(place(start), Place::Called);
            assert_eq!(place(start + answering::len() - 1), Place::Answered);
            assert_eq!(place(start + answering::len()), Place::Elsewhere);
        }
        assert_eq!(place(ENTRIES_VA + PAGE + ANSWERING), Place::Elsewhere);
        assert_eq!(place(ENTRIES_VA + ENTRY_SIZE * ENTRIES_MAX), Place::Elsewhere);
        assert_eq!(place(0x40_0000), Place::Elsewhere);
    }

    #[test]
    fn the_guest_may_raise_only_what_programs_raise() {
        let idt = idt();
        let ring3 = |vector: usize| idt[2 * vector] >> 45 & 3 == 3;
        let open: Vec<usize> = (0..256).filter(|vector| ring3(*vector)).collect();
        assert_eq!(open, [3, 4, 0x80]);
        assert!(idt.chunks_exact(2).all(|gate| gate[1] == SYSTEM_VA >> 32));
    }

    #[test]
    fn descriptors_say_where_the_task_segment_is() {
        let gdt = gdt(0x1234_5678_9abc_def0);
        let base = gdt[8] >> 16 & 0xff_ffff | (gdt[8] >> 56) << 24 | gdt[9] << 32;
        assert_eq!(base, 0x1234_5678_9abc_def0);
        assert_eq!(tss(0x1_0000_0002, 0x3_0000_0004)[1..3], [2, 1]);
        assert_eq!(tss(0x1_0000_0002, 0x3_0000_0004)[9..11], [4, 3]);
    }
}
