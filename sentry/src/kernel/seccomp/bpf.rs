//! Classic BPF as seccomp allows it (`seccomp_check_filter`, `bpf_check_classic`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Errno;

/// `BPF_MAXINSNS`.
pub const LEN_MAX: usize = 4096;
const DATA_BYTES: u32 = 64;
const MEMORY_WORDS: u32 = 16;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Insn {
    /// Class, mode, size or operation, source of the operand.
    pub code: u16,
    /// Instructions to skip.
    pub if_true: u8,
    pub if_false: u8,
    /// Immediate operand, offset, slot or distance.
    pub k: u32,
}

/// A checked instruction.
#[derive(Clone, Copy, Debug)]
enum Op {
    LoadData(u32),
    LoadImm(u32),
    LoadIndexImm(u32),
    LoadMem(usize),
    LoadIndexMem(usize),
    Store(usize),
    StoreIndex(usize),
    Alu(Alu, Operand),
    Neg,
    Jump(usize),
    Branch { test: Test, operand: Operand, if_true: usize, if_false: usize },
    Return(u32),
    ReturnA,
    ToIndex,
    FromIndex,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    K(u32),
    X,
}

#[derive(Clone, Copy, Debug)]
enum Alu {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Xor,
}

#[derive(Clone, Copy, Debug)]
enum Test {
    Eq,
    Gt,
    Ge,
    Set,
}

/// A program that always ends with an answer.
#[derive(Debug)]
pub struct Program(Box<[Op]>);

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// `EINVAL` for what is not allowed.
    pub fn new(insns: Vec<Insn>) -> Result<Self, Errno> {
        let len = insns.len();
        let mut ops = Vec::with_capacity(len);
        for (at, insn) in insns.iter().enumerate() {
            ops.push(decode(insn, at, len).ok_or(Errno::EINVAL)?);
        }
        match ops.last() {
            Some(Op::Return(_) | Op::ReturnA) if reads_only_written_slots(&ops) => {
                Ok(Self(ops.into()))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Does it look at the instruction pointer?
    pub fn uses_ip(&self) -> bool {
        self.0.iter().any(|op| matches!(op, Op::LoadData(2 | 3)))
    }

    /// The answer to a call described by `data`, a `struct seccomp_data` as words. All jumps go forward and stay
    /// inside, so this ends.
    pub fn run(&self, data: &[u32; 16]) -> u32 {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; MEMORY_WORDS as usize]);
        let mut at = 0;
        while let Some(op) = self.0.get(at) {
            at += 1;
            match *op {
                Op::LoadData(word) => a = data.get(word as usize).copied().unwrap_or(0),
                Op::LoadImm(k) => a = k,
                Op::LoadIndexImm(k) => x = k,
                Op::LoadMem(slot) => a = memory[slot],
                Op::LoadIndexMem(slot) => x = memory[slot],
                Op::Store(slot) => memory[slot] = a,
                Op::StoreIndex(slot) => memory[slot] = x,
                Op::Alu(alu, operand) => match alu.apply(a, operand.value(x)) {
                    Some(value) => a = value,
                    // Division by zero ends a program with 0: kill.
                    None => return 0,
                },
                Op::Neg => a = a.wrapping_neg(),
                Op::Jump(to) => at = to,
                Op::Branch { test, operand, if_true, if_false } => {
                    at = if test.holds(a, operand.value(x)) { if_true } else { if_false };
                }
                Op::Return(k) => return k,
                Op::ReturnA => return a,
                Op::ToIndex => x = a,
                Op::FromIndex => a = x,
            }
        }
        0
    }
}

impl Operand {
    fn value(self, x: u32) -> u32 {
        match self {
            Self::K(k) => k,
            Self::X => x,
        }
    }
}

impl Alu {
    fn apply(self, a: u32, b: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b)?,
            Self::Or => a | b,
            Self::And => a & b,
            Self::Lsh => a.wrapping_shl(b),
            Self::Rsh => a.wrapping_shr(b),
            Self::Xor => a ^ b,
        })
    }
}

impl Test {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Set => a & b != 0,
        }
    }
}

/// Whether each slot that is read was written on every way there.
fn reads_only_written_slots(ops: &[Op]) -> bool {
    // For each instruction the slots, as bits, that are written whichever way it is reached; all, where none leads.
    let mut written = vec![u16::MAX; ops.len()];
    if let Some(first) = written.first_mut() {
        *first = 0;
    }
    for (at, op) in ops.iter().enumerate() {
        let mut here = written[at];
        match *op {
            Op::LoadMem(slot) | Op::LoadIndexMem(slot) if here >> slot & 1 == 0 => return false,
            Op::Store(slot) | Op::StoreIndex(slot) => here |= 1 << slot,
            Op::Jump(to) => {
                written[to] &= here;
                continue;
            }
            Op::Branch { if_true, if_false, .. } => {
                written[if_true] &= here;
                written[if_false] &= here;
                continue;
            }
            _ => {}
        }
        // Behind an answer nobody goes on, but Linux looks at what follows as if.
        if let Some(next) = written.get_mut(at + 1) {
            *next &= here;
        }
    }
    true
}

/// `None` for an instruction seccomp does not allow.
fn decode(insn: &Insn, at: usize, len: usize) -> Option<Op> {
    const LD: u16 = 0;
    const LDX: u16 = 1;
    const ST: u16 = 2;
    const STX: u16 = 3;
    const ALU: u16 = 4;
    const JMP: u16 = 5;
    const RET: u16 = 6;
    const MISC: u16 = 7;
    const ABS: u16 = 0x20;
    const MEM: u16 = 0x60;
    const LEN: u16 = 0x80;
    let k = insn.k;
    let slot = || (k < MEMORY_WORDS).then_some(k as usize);
    let operand = if insn.code & 8 != 0 { Operand::X } else { Operand::K(k) };
    let target =
        |offset: usize| Some(at.checked_add(1)?.checked_add(offset)?).filter(|&to| to < len);
    let rest = insn.code & !7;
    match insn.code & 7 {
        LD => match rest {
            ABS if k < DATA_BYTES && k.is_multiple_of(4) => Some(Op::LoadData(k / 4)),
            0 => Some(Op::LoadImm(k)),
            MEM => Some(Op::LoadMem(slot()?)),
            LEN => Some(Op::LoadImm(DATA_BYTES)),
            _ => None,
        },
        LDX => match rest {
            0 => Some(Op::LoadIndexImm(k)),
            MEM => Some(Op::LoadIndexMem(slot()?)),
            LEN => Some(Op::LoadIndexImm(DATA_BYTES)),
            _ => None,
        },
        ST if rest == 0 => Some(Op::Store(slot()?)),
        STX if rest == 0 => Some(Op::StoreIndex(slot()?)),
        ALU => {
            let alu = match rest & !8 {
                0x00 => Alu::Add,
                0x10 => Alu::Sub,
                0x20 => Alu::Mul,
                0x30 if matches!(operand, Operand::K(0)) => return None,
                0x30 => Alu::Div,
                0x40 => Alu::Or,
                0x50 => Alu::And,
                0x60 | 0x70 if matches!(operand, Operand::K(32..)) => return None,
                0x60 => Alu::Lsh,
                0x70 => Alu::Rsh,
                0x80 => return (rest == 0x80).then_some(Op::Neg),
                0xa0 => Alu::Xor,
                _ => return None,
            };
            Some(Op::Alu(alu, operand))
        }
        JMP => {
            let test = match rest & !8 {
                0x00 if rest == 0 => return Some(Op::Jump(target(k as usize)?)),
                0x10 => Test::Eq,
                0x20 => Test::Gt,
                0x30 => Test::Ge,
                0x40 => Test::Set,
                _ => return None,
            };
            Some(Op::Branch {
                test,
                operand,
                if_true: target(insn.if_true.into())?,
                if_false: target(insn.if_false.into())?,
            })
        }
        RET => match rest {
            0 => Some(Op::Return(k)),
            0x10 => Some(Op::ReturnA),
            _ => None,
        },
        MISC => match rest {
            0 => Some(Op::ToIndex),
            0x80 => Some(Op::FromIndex),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, if_true: u8, if_false: u8, k: u32) -> Insn {
        Insn { code, if_true, if_false, k }
    }

    #[test]
    fn a_filter_chooses_by_number() {
        let program = Program::new(vec![
            insn(0x20, 0, 0, 0),
            insn(0x15, 0, 1, 39),
            insn(0x06, 0, 0, 0x0005_0001),
            insn(0x06, 0, 0, 0x7fff_0000),
        ])
        .unwrap();
        let mut data = [0; 16];
        data[0] = 39;
        assert_eq!(program.run(&data), 0x0005_0001);
        data[0] = 40;
        assert_eq!(program.run(&data), 0x7fff_0000);
        assert!(!program.uses_ip());
    }

    #[test]
    fn jumps_out_of_the_program_and_missing_ends_are_refused() {
        assert!(Program::new(vec![insn(0x05, 0, 0, 1), insn(0x06, 0, 0, 0)]).is_err());
        assert!(Program::new(vec![insn(0x20, 0, 0, 0)]).is_err());
        assert!(Program::new(vec![insn(0x20, 0, 0, 64), insn(0x06, 0, 0, 0)]).is_err());
        assert!(Program::new(vec![insn(0x28, 0, 0, 0), insn(0x06, 0, 0, 0)]).is_err());
    }
}
