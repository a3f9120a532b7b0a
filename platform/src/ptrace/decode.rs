//! Whether an instruction that faulted was reading or writing: ptrace(2) does not tell the
//! page fault's error code. Only answers that are certain are given (AMD64 Architecture
//! Programmer's Manual, volume 3, appendix A).

use crate::{AccessKind, Registers};

use AccessKind::{Read, Write};

/// The longest instruction.
pub(super) const INSTRUCTION_MAX: usize = 15;

/// What the instruction that starts with `code` did at `addr`. `None`: not certain.
pub(super) fn access(code: &[u8], regs: &Registers, addr: u64) -> Option<AccessKind> {
    let mut prefixes = Prefixes::default();
    let mut rest = code;
    let opcode = loop {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        match byte {
            0x66 => prefixes.operand = true,
            0xf2 => prefixes.repne = true,
            0xf3 => prefixes.rep = true,
            0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0x67 | 0x40..=0x4f => {}
            _ => break byte,
        }
    };
    match opcode {
        0x0f => match *rest {
            [0x38, opcode, modrm, ..] => three_byte_38(opcode, memory(modrm)?, prefixes),
            [0x3a, opcode, modrm, ..] => {
                memory(modrm)?;
                Some(if matches!(opcode, 0x14..=0x17) { Write } else { Read })
            }
            [opcode, modrm, ..] => two_byte(opcode, modrm, prefixes),
            _ => None,
        },
        0xc5 => match *rest {
            [bits, opcode, modrm, ..] => vector(1, bits & 3, opcode, memory(modrm)?),
            _ => None,
        },
        0xc4 => match *rest {
            [map, bits, opcode, modrm, ..] => vector(map & 31, bits & 3, opcode, memory(modrm)?),
            _ => None,
        },
        0x62 => match *rest {
            [map, bits, _, opcode, modrm, ..] => evex(map & 7, bits & 3, opcode, memory(modrm)?),
            _ => None,
        },
        _ => one_byte(opcode, rest.first().copied().unwrap_or(0xff), regs, addr),
    }
}

#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand: bool,
    rep: bool,
    repne: bool,
}

/// The `reg` field, when the other operand is memory.
fn memory(modrm: u8) -> Option<u8> {
    (modrm < 0xc0).then_some(modrm >> 3 & 7)
}

/// Is `addr` in the 16 bytes from `start` on?
fn near(addr: u64, start: u64) -> bool {
    addr.wrapping_sub(start) < 16
}

fn one_byte(opcode: u8, modrm: u8, regs: &Registers, addr: u64) -> Option<AccessKind> {
    let stack_write = near(addr, regs.rsp.wrapping_sub(16));
    let reg = memory(modrm);
    Some(match opcode {
        // Arithmetic: to memory, from memory; a comparison only reads.
        0x00..=0x3f => match opcode & 7 {
            0 | 1 if opcode < 0x38 => reg.map(|_| Write)?,
            0..=3 => reg.map(|_| Read)?,
            _ => return None,
        },
        0x50..=0x57 | 0x68 | 0x6a | 0x9c | 0xc8 | 0xe8 => Write,
        0x58..=0x5f | 0x9d | 0xc2 | 0xc3 | 0xc9 | 0xca | 0xcb | 0xcf => Read,
        0x63 | 0x69 | 0x6b | 0x84 | 0x85 | 0x8a | 0x8b | 0x8e => reg.map(|_| Read)?,
        0x80 | 0x81 | 0x83 => {
            if reg? == 7 {
                Read
            } else {
                Write
            }
        }
        0x86 | 0x87 | 0x88 | 0x89 | 0x8c | 0xc6 | 0xc7 => reg.map(|_| Write)?,
        0xc0 | 0xc1 | 0xd0..=0xd3 => reg.map(|_| Write)?,
        // pop to memory.
        0x8f => {
            if near(addr, regs.rsp) {
                Read
            } else {
                Write
            }
        }
        0xa0 | 0xa1 | 0xa6 | 0xa7 | 0xac..=0xaf | 0xd7 => Read,
        0xa2 | 0xa3 | 0xaa | 0xab => Write,
        // movs: at which of its two places?
        0xa4 | 0xa5 => match (addr >> 12 == regs.rsi >> 12, addr >> 12 == regs.rdi >> 12) {
            (true, false) => Read,
            (false, true) => Write,
            _ => return None,
        },
        0xd8 | 0xda | 0xdc | 0xde => reg.map(|_| Read)?,
        0xd9 => {
            if matches!(reg?, 2 | 3 | 6 | 7) {
                Write
            } else {
                Read
            }
        }
        0xdb | 0xdd | 0xdf => match (opcode, reg?) {
            (0xdb, 1 | 2 | 3 | 7) | (0xdd, 1 | 2 | 3 | 6 | 7) | (0xdf, 1 | 2 | 3 | 6 | 7) => Write,
            _ => Read,
        },
        0xf6 | 0xf7 => {
            if matches!(reg?, 2 | 3) {
                Write
            } else {
                Read
            }
        }
        0xfe => reg.map(|_| Write)?,
        0xff => match reg {
            Some(0 | 1) => Write,
            // call and push: read memory, write the stack.
            Some(2 | 3 | 6) => {
                if stack_write {
                    Write
                } else {
                    Read
                }
            }
            Some(_) => Read,
            None if stack_write => Write,
            None => return None,
        },
        _ => return None,
    })
}

fn two_byte(opcode: u8, modrm: u8, prefixes: Prefixes) -> Option<AccessKind> {
    match opcode {
        0xa0 | 0xa8 => return Some(Write),
        0xa1 | 0xa9 => return Some(Read),
        0xf7 => return Some(Write),
        _ => {}
    }
    let reg = memory(modrm)?;
    Some(match opcode {
        0x11 | 0x13 | 0x17 | 0x29 | 0x2b | 0x7f | 0x90..=0x9f | 0xc3 | 0xd6 | 0xe7 => Write,
        0x7e => {
            if prefixes.rep {
                Read
            } else {
                Write
            }
        }
        0xa4 | 0xa5 | 0xac | 0xad | 0xab | 0xb3 | 0xbb | 0xb0 | 0xb1 | 0xc0 | 0xc1 => Write,
        0xba => {
            if reg == 4 {
                Read
            } else {
                Write
            }
        }
        0xc7 if reg == 1 || reg == 4 => Write,
        0xae => match reg {
            0 | 3 | 4 | 6 => Write,
            1 | 2 => Read,
            _ => return None,
        },
        0x10 | 0x12 | 0x14..=0x16 | 0x28 | 0x2a | 0x2c..=0x2f | 0x40..=0x6f => Read,
        0x70..=0x76 | 0x7c | 0x7d | 0xa3 | 0xaf | 0xb6..=0xb8 | 0xbc..=0xbf => Read,
        0xc2 | 0xc4 | 0xc6 | 0xd0..=0xfe => Read,
        _ => return None,
    })
}

fn three_byte_38(opcode: u8, _memory: u8, prefixes: Prefixes) -> Option<AccessKind> {
    Some(match opcode {
        0x00..=0xdf => Read,
        // movbe to memory, unless it is crc32.
        0xf1 if !prefixes.repne => Write,
        0xf0 | 0xf1 => Read,
        0xf6 if prefixes.operand || prefixes.rep => Read,
        _ => return None,
    })
}

/// VEX: maps 1 to 3; `kind` is the prefix it stands for (1: 66, 2: F3, 3: F2).
fn vector(map: u8, kind: u8, opcode: u8, reg: u8) -> Option<AccessKind> {
    let write = match map {
        1 => match opcode {
            0x7e => kind != 2,
            0xae => reg == 3,
            0x11 | 0x13 | 0x17 | 0x29 | 0x2b | 0x7f | 0x91 | 0xd6 | 0xe7 => true,
            _ => false,
        },
        2 => matches!(opcode, 0x2e | 0x2f | 0x8e),
        3 => matches!(opcode, 0x14..=0x17 | 0x19 | 0x1d | 0x39),
        _ => return None,
    };
    Some(if write { Write } else { Read })
}

fn evex(map: u8, kind: u8, opcode: u8, reg: u8) -> Option<AccessKind> {
    let write = match map {
        2 => match opcode {
            0x10..=0x15 | 0x20..=0x25 | 0x30..=0x35 => kind == 2,
            0x63 | 0x8a | 0x8b | 0xa0..=0xa3 => true,
            _ => false,
        },
        3 => matches!(opcode, 0x14..=0x17 | 0x19 | 0x1b | 0x1d | 0x39 | 0x3b),
        1 => return vector(1, kind, opcode, reg),
        _ => return None,
    };
    Some(if write { Write } else { Read })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_instructions() {
        let regs = Registers { rsp: 0x7000, rsi: 0x1000, rdi: 0x2000, ..Registers::default() };
        let cases: &[(&[u8], u64, Option<AccessKind>)] = &[
            // mov rax, [rbx]; mov [rbx], rcx; mov byte ptr [rdi], 0
            (&[0x48, 0x8b, 0x03], 0, Some(Read)),
            (&[0x48, 0x89, 0x0b], 0, Some(Write)),
            (&[0xc6, 0x07, 0], 0, Some(Write)),
            // add [rbx], eax; cmp [rbx], eax; lock cmpxchg [rdi], ecx
            (&[0x01, 0x03], 0, Some(Write)),
            (&[0x39, 0x03], 0, Some(Read)),
            (&[0xf0, 0x0f, 0xb1, 0x0f], 0, Some(Write)),
            // rep movsb at either side; rep stosq; push rax; call
            (&[0xf3, 0xa4], 0x1008, Some(Read)),
            (&[0xf3, 0xa4], 0x2008, Some(Write)),
            (&[0xf3, 0xa4], 0x9000, None),
            (&[0xf3, 0x48, 0xab], 0x2000, Some(Write)),
            (&[0x50], 0x6ff8, Some(Write)),
            (&[0xff, 0x13], 0x6ff8, Some(Write)),
            (&[0xff, 0x13], 0x9000, Some(Read)),
            // movups [rax], xmm0; movdqu xmm0, [rax]; vmovdqu [rax], ymm0; vmovdqu64 [rax], zmm0
            (&[0x0f, 0x11, 0x00], 0, Some(Write)),
            (&[0xf3, 0x0f, 0x6f, 0x00], 0, Some(Read)),
            (&[0xc5, 0xfe, 0x7f, 0x00], 0, Some(Write)),
            (&[0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x00], 0, Some(Write)),
            (&[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x00], 0, Some(Read)),
            // Without memory, and cut off.
            (&[0x48, 0x89, 0xc0], 0, None),
            (&[0x48], 0, None),
            (&[], 0, None),
        ];
        for (code, addr, expected) in cases {
            assert_eq!(access(code, &regs, *addr), *expected, "{code:x?}");
        }
    }
}
