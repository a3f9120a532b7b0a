//! The signal frame in a guest thread's slot: where its registers are while the stub's
//! handler runs (`arch/x86/include/uapi/asm/{ucontext,sigcontext}.h`).
//!
//! Siblings of the thread can write it at any time; every value is read as hostile, and
//! what the frame needs to be intact is written anew before it is used.

use crate::{
    Registers, XState,
    regs::{CODE_64, DATA},
    stub::{Control, Slot, layout::*},
};

/// `struct ucontext`: `uc_flags`, `uc_link`, `uc_stack`, then the registers.
const UC_FLAGS: u64 = 0;
const UC_LINK: u64 = 8;
const UC_STACK: u64 = 16;
const R8: u64 = 40;
const RAX: u64 = 144;
const RCX: u64 = 152;
const RSP: u64 = 160;
const RIP: u64 = 168;
#[cfg(test)]
const EFLAGS: u64 = 176;
const SEGMENTS: u64 = 184;
const ERROR_CODE: u64 = 192;
const TRAP_NUMBER: u64 = 200;
const FPSTATE: u64 = 224;
const SIGNAL_MASK: u64 = 296;
const UCONTEXT_LEN: u64 = 304;

/// `siginfo_t`: `si_code` and `si_addr`.
const SI_CODE: u64 = 8;
const SI_ADDR: u64 = 16;
const SIGINFO_LEN: u64 = 128;

/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const UC_FLAGS_VALUE: u64 = 7;

const CODE_32: u64 = 0x23;

/// Where in the control file a frame is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    ucontext: u64,
    siginfo: u64,
}

/// Why the handler runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cause {
    pub(super) code: i32,
    pub(super) addr: u64,
    pub(super) error_code: u64,
    pub(super) trapno: u64,
}

impl Frame {
    /// The frame at addresses which the handler reported, if they lie in the slot.
    pub(super) fn new(slot: Slot, siginfo: u64, ucontext: u64) -> Option<Self> {
        Some(Self {
            ucontext: slot.offset_of(ucontext, UCONTEXT_LEN)?,
            siginfo: slot.offset_of(siginfo, SIGINFO_LEN)?,
        })
    }

    pub(super) fn cause(self, control: &Control) -> Cause {
        Cause {
            code: control.read_u32(self.siginfo + SI_CODE) as i32,
            addr: control.read_u64(self.siginfo + SI_ADDR),
            error_code: control.read_u64(self.ucontext + ERROR_CODE),
            trapno: control.read_u64(self.ucontext + TRAP_NUMBER),
        }
    }

    /// All but the segment bases.
    pub(super) fn read(self, control: &Control) -> Registers {
        let mut words = [0u64; 18];
        for (word, at) in words.iter_mut().zip((self.ucontext + R8..).step_by(8)) {
            *word = control.read_u64(at);
        }
        let segments = control.read_u64(self.ucontext + SEGMENTS);
        let [r8, r9, r10, r11, r12, r13, r14, r15, rest @ ..] = words;
        let [rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags] = rest;
        Registers {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            orig_rax: u64::MAX,
            rip,
            cs: segments & 0xffff,
            eflags,
            rsp,
            ss: DATA,
            ..Registers::default()
        }
    }

    /// Writes all registers, and makes whole the rest of what the kernel will read.
    pub(super) fn write(self, control: &Control, slot: Slot, regs: &Registers) {
        let words = [
            regs.r8,
            regs.r9,
            regs.r10,
            regs.r11,
            regs.r12,
            regs.r13,
            regs.r14,
            regs.r15,
            regs.rdi,
            regs.rsi,
            regs.rbp,
            regs.rbx,
            regs.rdx,
            regs.rax,
            regs.rcx,
            regs.rsp,
            regs.rip,
            regs.eflags,
            (if regs.cs == CODE_32 { CODE_32 } else { CODE_64 }) | DATA << 48,
        ];
        for (word, at) in words.into_iter().zip((self.ucontext + R8..).step_by(8)) {
            control.write_u64(at, word);
        }
        let stack = slot.address() + SLOT_HEADER;
        for (at, value) in [
            (UC_FLAGS, UC_FLAGS_VALUE),
            (UC_LINK, 0),
            (UC_STACK, stack),
            (UC_STACK + 8, 0),
            (UC_STACK + 16, SLOT_SIZE - SLOT_HEADER),
            (SIGNAL_MASK, 0),
        ] {
            control.write_u64(self.ucontext + at, value);
        }
    }

    pub(super) fn rip(self, control: &Control) -> u64 {
        control.read_u64(self.ucontext + RIP)
    }

    pub(super) fn rcx(self, control: &Control) -> u64 {
        control.read_u64(self.ucontext + RCX)
    }

    pub(super) fn rsp(self, control: &Control) -> u64 {
        control.read_u64(self.ucontext + RSP)
    }

    pub(super) fn set_rip(self, control: &Control, rip: u64) {
        control.write_u64(self.ucontext + RIP, rip);
    }

    /// rdi, rsi, rdx, r8, r9, r10, rsp, rbx, rbp, r12 to r15.
    pub(super) fn set_kept(self, control: &Control, kept: [u64; 13]) {
        // In the order of the frame: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp.
        for (value, index) in kept.into_iter().zip([8, 9, 12, 0, 1, 2, 15, 11, 10, 4, 5, 6, 7]) {
            control.write_u64(self.ucontext + R8 + 8 * index, value);
        }
    }

    /// Makes a system call that was interrupted look finished, or about to be made (with its number as `value`).
    pub(super) fn finish_call(self, control: &Control, rip: u64, value: u64) {
        control.write_u64(self.ucontext + RIP, rip);
        control.write_u64(self.ucontext + RAX, value);
    }

    /// Writes extended state which is whole and harmless.
    pub(super) fn write_xstate(self, control: &Control, slot: Slot, state: &XState) -> Option<()> {
        let at = self.xstate(control, slot, state.bytes.len() as u64)?;
        control.write_bytes(at, &state.bytes);
        Some(())
    }

    /// Where the extended state of `len` bytes is in the control file.
    pub(super) fn xstate(self, control: &Control, slot: Slot, len: u64) -> Option<u64> {
        slot.offset_of(control.read_u64(self.ucontext + FPSTATE), len)
    }

    #[cfg(test)]
    pub(super) const fn eflags_offset() -> u64 {
        EFLAGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_written_are_read_back() {
        let control = Control::new().unwrap();
        let slot = control.take_slot().unwrap();
        let at = slot.address() + SLOT_HEADER;
        let frame = Frame::new(slot, at + 512, at).unwrap();
        let regs = Registers {
            r15: 15,
            rax: 1,
            rdi: 5,
            rip: 7,
            eflags: 0x202,
            cs: CODE_64,
            ss: DATA,
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        frame.write(&control, slot, &regs);
        assert_eq!(frame.read(&control), regs);
        assert_eq!(control.read_u64(frame.ucontext + Frame::eflags_offset()), 0x202);
        assert!(Frame::new(slot, at, slot.address() + SLOT_SIZE - 296).is_none());
    }
}
