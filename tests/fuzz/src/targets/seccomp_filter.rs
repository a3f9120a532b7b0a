//! Programs that a guest gives to seccomp(2): what is accepted ends, and answers as a plain interpreter of the raw
//! instructions does; what is refused is refused for a reason that a second check finds too (`bpf_check_classic`,
//! `seccomp_check_filter`).
//!
//! An input is the words of a call, then instructions.

use sentry::kernel::seccomp::bpf::{Insn, LEN_MAX, Program};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "seccomp_filter",
    run,
    seeds,
    max_len: 4096,
    memory: Some(|len| 4096 + 32 * len),
};

const DATA_LEN: usize = 64;

fn run(data: &[u8]) {
    let Some((call, program)) = data.split_at_checked(DATA_LEN) else { return };
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(call.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    }
    let insns: Vec<Insn> = program.chunks_exact(8).map(insn).take(LEN_MAX).collect();
    let verdict = check(&insns);
    match Program::new(insns.clone()) {
        Ok(program) => {
            verdict.expect("a program that is not allowed was accepted");
            assert_eq!(Some(program.run(&words)), interpret(&insns, &words));
            let mut elsewhere = words;
            elsewhere[2] ^= 0x55;
            elsewhere[3] ^= 0x55;
            if !program.uses_ip() {
                assert_eq!(program.run(&words), program.run(&elsewhere));
            }
        }
        Err(_) => assert!(verdict.is_err(), "a program that is allowed was refused"),
    }
}

fn insn(bytes: &[u8]) -> Insn {
    let bytes: [u8; 8] = bytes.try_into().expect("eight bytes");
    let [a, b, if_true, if_false, k @ ..] = bytes;
    Insn { code: u16::from_ne_bytes([a, b]), if_true, if_false, k: u32::from_ne_bytes(k) }
}

/// The instructions that seccomp knows, by the names of `linux/bpf_common.h`.
const LD_W_ABS: u16 = 0x20;
const LD_IMM: u16 = 0x00;
const LD_MEM: u16 = 0x60;
const LD_LEN: u16 = 0x80;
const LDX_IMM: u16 = 0x01;
const LDX_MEM: u16 = 0x61;
const LDX_LEN: u16 = 0x81;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const NEG: u16 = 0x84;
const JA: u16 = 0x05;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
/// Operations with an operand, but for the bit that says which.
const ARITHMETIC: [u16; 9] = [0x04, 0x14, 0x24, 0x34, 0x44, 0x54, 0x64, 0x74, 0xa4];
const DIV: u16 = 0x34;
const LSH: u16 = 0x64;
const RSH: u16 = 0x74;
const BRANCHES: [u16; 4] = [0x15, 0x25, 0x35, 0x45];
/// The operand is X and not K.
const X: u16 = 8;

/// `Err` with what is wrong.
fn check(insns: &[Insn]) -> Result<(), &'static str> {
    match insns.last() {
        Some(Insn { code: RET_K | RET_A, .. }) => {}
        _ => return Err("no answer at the end"),
    }
    // Slots that have been written on every way to an instruction, as bits; all of them where no way leads.
    let mut written = vec![u16::MAX; insns.len()];
    if let Some(first) = written.first_mut() {
        *first = 0;
    }
    for (at, insn) in insns.iter().enumerate() {
        let here = written[at];
        let mut after = here;
        let mut jump = |distance: u32, state: u16| {
            let to = at as u64 + 1 + u64::from(distance);
            let target = usize::try_from(to).ok().and_then(|to| written.get_mut(to));
            *target.ok_or("a jump out of the program")? &= state;
            Ok::<(), &'static str>(())
        };
        match insn.code {
            LD_W_ABS if insn.k % 4 == 0 && insn.k < DATA_LEN as u32 => {}
            LD_IMM | LDX_IMM | LD_LEN | LDX_LEN | NEG | RET_K | RET_A | TAX | TXA => {}
            LD_MEM | LDX_MEM | ST | STX if insn.k >= 16 => return Err("no such slot"),
            LD_MEM | LDX_MEM if here >> insn.k & 1 == 0 => return Err("a slot not written"),
            LD_MEM | LDX_MEM => {}
            ST | STX => after |= 1 << insn.k,
            DIV if insn.k == 0 => return Err("division by zero"),
            LSH | RSH if insn.k >= 32 => return Err("a shift by too much"),
            JA => {
                jump(insn.k, here)?;
                continue;
            }
            code if ARITHMETIC.contains(&(code & !X)) => {}
            code if BRANCHES.contains(&(code & !X)) => {
                jump(insn.if_true.into(), here)?;
                jump(insn.if_false.into(), here)?;
                continue;
            }
            _ => return Err("no such instruction"),
        }
        // What follows an answer is taken for its successor too, as Linux does.
        if let Some(next) = written.get_mut(at + 1) {
            *next &= after;
        }
    }
    Ok(())
}

/// What a checked program answers; `None` when it does not end.
fn interpret(insns: &[Insn], data: &[u32; 16]) -> Option<u32> {
    let (mut a, mut x, mut slots) = (0_u32, 0_u32, [0_u32; 16]);
    let mut at = 0;
    for _ in 0..=insns.len() {
        let insn = insns.get(at)?;
        at += 1;
        let (slot, operand) = (insn.k as usize % 16, if insn.code & X == 0 { insn.k } else { x });
        match insn.code {
            LD_W_ABS => a = *data.get(insn.k as usize / 4)?,
            LD_IMM => a = insn.k,
            LD_MEM => a = slots[slot],
            LD_LEN => a = 64,
            LDX_IMM => x = insn.k,
            LDX_MEM => x = slots[slot],
            LDX_LEN => x = 64,
            ST => slots[slot] = a,
            STX => slots[slot] = x,
            NEG => a = 0_u32.wrapping_sub(a),
            JA => at += insn.k as usize,
            RET_K => return Some(insn.k),
            RET_A => return Some(a),
            TAX => x = a,
            TXA => a = x,
            code => {
                let wide = (u64::from(a), u64::from(operand));
                let holds = match code & !X {
                    0x04 => return_to(&mut a, wide.0 + wide.1),
                    0x14 => return_to(&mut a, wide.0 + (1 << 32) - wide.1),
                    0x24 => return_to(&mut a, wide.0 * wide.1),
                    // By the value of X, which nobody checked: the filter's answer is 0.
                    0x34 if operand == 0 => return Some(0),
                    0x34 => return_to(&mut a, wide.0 / wide.1),
                    0x44 => return_to(&mut a, wide.0 | wide.1),
                    0x54 => return_to(&mut a, wide.0 & wide.1),
                    0x64 => return_to(&mut a, wide.0 << (wide.1 % 32)),
                    0x74 => return_to(&mut a, wide.0 >> (wide.1 % 32)),
                    0xa4 => return_to(&mut a, wide.0 ^ wide.1),
                    0x15 => Some(a == operand),
                    0x25 => Some(a > operand),
                    0x35 => Some(a >= operand),
                    _ => Some(a & operand != 0),
                };
                match holds {
                    None => {}
                    Some(true) => at += usize::from(insn.if_true),
                    Some(false) => at += usize::from(insn.if_false),
                }
            }
        }
    }
    None
}

/// Sets a register to the low half of a number: no branch.
fn return_to(register: &mut u32, value: u64) -> Option<bool> {
    *register = value as u32;
    None
}

/// Programs of a few instructions which are nearly all allowed.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = crate::mutate::Random::new(5);
    let mut all = Vec::new();
    for len in 1..40 {
        let mut bytes: Vec<u8> = (0..DATA_LEN).map(|_| random.below(6) as u8).collect();
        for at in 0..len {
            let left = len - at - 1;
            let k = [0, 1, 4, 15, 31, 60, u32::MAX][random.below(7)];
            let (code, k) = match random.below(12) {
                _ if left == 0 => ([RET_K, RET_A][random.below(2)], 0x0005_0000 | k),
                0 => (LD_W_ABS, k / 4 * 4 % 64),
                1 => ([LD_IMM, LDX_IMM, LD_LEN, LDX_LEN][random.below(4)], k),
                2 => ([LD_MEM, LDX_MEM][random.below(2)], k % 4),
                3 | 4 => ([ST, STX][random.below(2)], k % 4),
                5 => ([TAX, TXA, NEG][random.below(3)], 0),
                6 => (JA, random.below(left.min(3)) as u32),
                7 => (RET_K, k),
                8 | 9 => (BRANCHES[random.below(4)] | (X * random.below(2) as u16), k),
                _ => (ARITHMETIC[random.below(9)] | (X * random.below(2) as u16), (k % 32) | 1),
            };
            bytes.extend(code.to_ne_bytes());
            bytes.extend([
                random.below(left.clamp(1, 8)) as u8,
                random.below(left.clamp(1, 8)) as u8,
            ]);
            bytes.extend(k.to_ne_bytes());
        }
        all.push(bytes);
    }
    all
}
