//! The way in for SYSCALL of a vCPU that answers some calls itself: those whose answer is a word of the
//! context's answers, by the table that stub processes use. All others leave, as by the plain way in.
//!
//! The code is the same for all vCPUs and is found at an address of each vCPU's own; the page behind it is the vCPU's,
//! which the code reads relative to itself. So it needs neither a register of the guest's nor the guest's segment
//! bases, and stores nothing: whoever stops it in between finds the call not made, or answered.
//!
//! SYSRET is safe: RCX is what SYSCALL put there, the end of an instruction below `USER_END`, and calls that are
//! single-stepped leave. No index comes from the guest, so that nothing is read ahead of a check either.

use super::{layout::*, stub};
use crate::stub::{
    answer_words,
    layout::{ANSWER_CLOCK, HOST_VDSO, USER_END},
};

// What SYSRET may be given on every processor (Intel SDM, volume 2, SYSRET: a canonical address).
const _: () = assert!(USER_END < 1 << 47 && HOST_VDSO + VDSO_MAX < 1 << 47);

/// Offset in the code page.
pub(super) const ANSWERING: u64 = 0x400;

/// Bytes of the code: what is checked first, one comparison, the way out, one answer.
const CHECKS: u64 = 26;
const COMPARISON: u64 = 11;
const WAY_OUT: u64 = 6;
const ANSWER: u64 = 9;
/// In an answer: where the number is gone, and the result there.
const ANSWER_LOADED: u64 = 6;

/// What an interruption in this code finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answering {
    /// The call, not begun.
    NotYet,
    /// About to leave by itself.
    Leaving,
    /// The result in RAX, to go on at RCX with the flags of R11.
    Answered,
}

/// The system calls that are answered, with the words that answer them.
fn answered() -> impl Iterator<Item = (u8, u8)> + Clone {
    (0u8..=255).zip(answer_words()).map(|(number, word)| (number, *word)).filter(
        |(_, word)| matches!(word, 1..ANSWER_CLOCK), // the rest takes code of stub processes
    )
}

/// The offset of the way out from the start of the code.
fn way_out() -> u64 {
    CHECKS + COMPARISON * answered().count() as u64
}

/// What code at `offset` from the start does.
pub(super) fn place(offset: u64) -> Answering {
    let Some(behind) = offset.checked_sub(way_out()) else { return Answering::NotYet };
    match behind.checked_sub(WAY_OUT) {
        None => Answering::Leaving,
        Some(at) if at % ANSWER < ANSWER_LOADED => Answering::NotYet,
        Some(_) => Answering::Answered,
    }
}

/// One past the code, from its start.
pub(super) fn len() -> u64 {
    way_out() + WAY_OUT + ANSWER * answered().count() as u64
}

/// The code.
pub(super) fn code() -> Vec<u8> {
    let mut code = Vec::new();
    // Displacements count from the end of the instruction, which is `rest` bytes behind them.
    let displacement = |code: &Vec<u8>, to: u64, rest: u64| {
        (to as i32).wrapping_sub((code.len() as u64 + 4 + rest) as i32).to_le_bytes()
    };
    let (answers, out) = (PAGE - ANSWERING + V_ANSWERS, way_out());
    // cmpl $0, answers(%rip); je out
    code.extend([0x83, 0x3d]);
    code.extend(displacement(&code, answers, 1));
    code.push(0);
    code.extend([0x0f, 0x84]);
    code.extend(displacement(&code, out, 0));
    // test $TF, %r11d; jne out
    code.extend([0x41, 0xf7, 0xc3, 0x00, 0x01, 0x00, 0x00, 0x0f, 0x85]);
    code.extend(displacement(&code, out, 0));
    for (n, (number, _)) in (0..).zip(answered()) {
        // cmp $number, %eax; je to its answer
        code.push(0x3d);
        code.extend(u32::from(number).to_le_bytes());
        code.extend([0x0f, 0x84]);
        code.extend(displacement(&code, out + WAY_OUT + ANSWER * n, 0));
    }
    code.extend(stub::leave(stub::PORT_SYSCALL));
    for (_, word) in answered() {
        // mov word(%rip), %eax; sysretq
        code.extend([0x8b, 0x05]);
        code.extend(displacement(&code, answers + 4 * u64::from(word), 0));
        code.extend([0x48, 0x0f, 0x07]);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_code() {
        let code = code();
        assert_eq!(code.len() as u64, len());
        let out = way_out();
        assert_eq!(code[out as usize..][..2], [0xe6, stub::PORT_SYSCALL as u8]);
        assert_eq!((place(0), place(out - 1)), (Answering::NotYet, Answering::NotYet));
        assert_eq!((place(out), place(out + 5)), (Answering::Leaving, Answering::Leaving));
        for at in (out + WAY_OUT..len()).step_by(ANSWER as usize) {
            assert_eq!(code[at as usize..][..2], [0x8b, 0x05]);
            assert_eq!(code[(at + ANSWER_LOADED) as usize..][..3], [0x48, 0x0f, 0x07]);
            assert_eq!(place(at), Answering::NotYet);
            assert_eq!(place(at + ANSWER_LOADED), Answering::Answered);
        }
    }

    #[test]
    fn ids_are_answered_from_their_words() {
        let calls: Vec<_> = answered().collect();
        assert_eq!(calls, [(39, 1), (102, 3), (104, 4), (107, 5), (108, 6), (186, 2)]);
        let code = code();
        let word_at = |at: usize, rest: usize| {
            let displacement = i32::from_le_bytes(code[at..at + 4].try_into().unwrap());
            (at + 4 + rest) as i64 + i64::from(displacement)
        };
        // From the code to the page behind its own.
        let start = (PAGE - ANSWERING + V_ANSWERS) as i64;
        assert_eq!(word_at(2, 1), start);
        for (n, (number, word)) in calls.into_iter().enumerate() {
            let comparison = CHECKS as usize + n * COMPARISON as usize;
            assert_eq!(code[comparison..][..2], [0x3d, number]);
            let answer = word_at(comparison + 7, 0) as usize;
            assert_eq!(code[answer..][..2], [0x8b, 0x05]);
            assert_eq!(word_at(answer + 2, 0), start + 4 * i64::from(word));
        }
    }
}
