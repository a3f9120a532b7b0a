//! A system call from a rewritten site: what the guest thread leaves in its slot, and the
//! replies it understands. All of it is hostile once guest code has run.

use std::{mem::offset_of, sync::atomic::Ordering};

use crate::{
    Registers,
    regs::{CODE_64, DATA},
    stub::{Control, Slot, layout::*},
};

const RAX: u64 = offset_of!(Registers, rax) as u64;
const RIP: u64 = offset_of!(Registers, rip) as u64;
const EFLAGS: u64 = offset_of!(Registers, eflags) as u64;
const RSP: u64 = offset_of!(Registers, rsp) as u64;
const FS_BASE: u64 = offset_of!(Registers, fs_base) as u64;

/// What a program may set (`FIX_EFLAGS` in `arch/x86/kernel/signal.c`), but for the trap flag.
const EFLAGS_USER: u64 = 0x5_0cd5;
const EFLAGS_FIXED: u64 = 0x202;
const EFLAGS_TRAP: u64 = 1 << 8;

/// How a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Result,
    Save,
    Frame,
    Load,
    LoadExtended,
}

impl Reply {
    pub(super) fn code(self) -> u32 {
        match self {
            Reply::Result => CALL_RESULT,
            Reply::Save => CALL_SAVE,
            Reply::Frame => CALL_FRAME,
            Reply::Load => CALL_LOAD,
            Reply::LoadExtended => CALL_LOAD_EXTENDED,
        }
    }
}

/// The part of a slot that a call uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSlot<'a> {
    pub(super) control: &'a Control,
    pub(super) slot: Slot,
}

impl CallSlot<'_> {
    fn at(self, offset: u64) -> u64 {
        self.slot.offset() + offset
    }

    fn register(self, offset: u64) -> u64 {
        self.control.read_u64(self.at(S_REGISTERS + offset))
    }

    /// Makes the slot ready for its thread.
    pub(super) fn prepare(self) {
        self.control.write_u64(self.at(S_ANSWERS), self.slot.answers());
    }

    pub(super) fn state(self) -> u32 {
        self.control.word(self.at(S_STATE)).load(Ordering::Acquire)
    }

    pub(super) fn set_state(self, state: u32) {
        self.control.word(self.at(S_STATE)).store(state, Ordering::Release);
    }

    /// Replies; true when the thread has rung the bell or is about to.
    pub(super) fn reply(self, reply: Reply) -> bool {
        self.control.word(self.at(S_STATE)).swap(reply.code(), Ordering::AcqRel) == CALL_RUNG
    }

    pub(super) fn set_attentive(self, attentive: bool) {
        self.control.word(self.at(S_ATTENTIVE)).store(attentive.into(), Ordering::SeqCst);
    }

    /// True once the thread is in its handler.
    pub(super) fn is_in_handler(self) -> bool {
        self.control.word(self.at(S_HANDLER)).load(Ordering::Relaxed) != 0
    }

    pub(super) fn clear_handler(self) {
        self.control.word(self.at(S_HANDLER)).store(0, Ordering::Relaxed);
    }

    /// Number and arguments.
    pub(super) fn arguments(self) -> (u64, [u64; 6]) {
        // Offsets of rdi, rsi, rdx, r10, r8, r9.
        let args = [112, 104, 96, 56, 72, 64].map(|offset| self.register(offset));
        (self.control.read_u64(self.at(S_NUMBER)), args)
    }

    /// The address of the site's own `syscall` instruction; the way back lies behind it.
    pub(super) fn back(self) -> u64 {
        self.control.read_u64(self.at(S_BACK))
    }

    pub(super) fn number(self) -> u64 {
        self.control.read_u64(self.at(S_NUMBER))
    }

    pub(super) fn set_result(self, value: u64) {
        self.control.write_u64(self.at(S_REGISTERS + RAX), value);
    }

    /// What the last [`Reply::Load`] said of `rip`.
    pub(super) fn rip(self) -> u64 {
        self.register(RIP)
    }

    /// rdi, rsi, rdx, r8, r9, r10, rsp, rbx, rbp, r12 to r15 as they were before the stub called
    /// the vDSO, which may have any of them on its stack.
    pub(super) fn kept(self) -> [u64; 13] {
        std::array::from_fn(|n| self.control.read_u64(self.at(S_KEPT + 8 * n as u64)))
    }

    /// All registers as a system call leaves them, but for the result and GS.
    pub(super) fn registers(self) -> Registers {
        let rip = self.back().wrapping_add(2);
        let [r15, r14, r13, r12, rbp, rbx] = std::array::from_fn(|n| self.register(8 * n as u64));
        let [r10, r9, r8] = std::array::from_fn(|n| self.register(56 + 8 * n as u64));
        let [rdx, rsi, rdi] = std::array::from_fn(|n| self.register(96 + 8 * n as u64));
        Registers {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11: EFLAGS_FIXED,
            r10,
            r9,
            r8,
            rax: 0,
            rcx: rip,
            rdx,
            rsi,
            rdi,
            orig_rax: self.number(),
            rip,
            cs: CODE_64,
            eflags: EFLAGS_FIXED,
            rsp: self.register(RSP),
            ss: DATA,
            fs_base: self.register(FS_BASE),
            ..Registers::default()
        }
    }

    /// Can these be loaded without a frame?
    pub(super) fn can_load(regs: &Registers) -> bool {
        regs.cs == CODE_64 && regs.gs_base == 0 && regs.eflags & EFLAGS_TRAP == 0
    }

    /// Lays them out for [`Reply::Load`].
    pub(super) fn write_registers(self, regs: &Registers) {
        let words = [
            regs.r15,
            regs.r14,
            regs.r13,
            regs.r12,
            regs.rbp,
            regs.rbx,
            regs.r11,
            regs.r10,
            regs.r9,
            regs.r8,
            regs.rax,
            regs.rcx,
            regs.rdx,
            regs.rsi,
            regs.rdi,
            regs.orig_rax,
            regs.rip,
        ];
        for (word, at) in words.into_iter().zip((self.at(S_REGISTERS)..).step_by(8)) {
            self.control.write_u64(at, word);
        }
        let eflags = regs.eflags & EFLAGS_USER | EFLAGS_FIXED;
        // A base that is not canonical would fault in the stub.
        let fs_base = if regs.fs_base >> 47 == 0 { regs.fs_base } else { 0 };
        for (offset, value) in [(EFLAGS, eflags), (RSP, regs.rsp), (FS_BASE, fs_base)] {
            self.control.write_u64(self.at(S_REGISTERS + offset), value);
        }
    }

    /// Where the extended state is saved and loaded, in the control file.
    pub(super) fn xstate(self) -> u64 {
        self.at(S_XSTATE)
    }

    /// Is this on the small stack which the stub gives to what it calls?
    pub(super) fn is_own_stack(self, rsp: u64) -> bool {
        rsp.checked_sub(self.slot.address()).is_some_and(|at| (S_STACK..=S_STACK_TOP).contains(&at))
    }
}
