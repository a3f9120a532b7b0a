//! The frame a signal handler finds on its stack, and the way back
//! (`arch/x86/kernel/signal_64.c`, `arch/x86/kernel/fpu/signal.c`).

use linux_abi::{
    Errno, SigInfo, SigSet, Signal,
    signal::{RtSigFrame, SigAction, SigContext, SigStack, UContext, sa, uc},
};
use platform::{AccessKind, Registers, XState};

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    syscalls::Outcome,
    user::{UserAddr, UserMemory, UserRef},
};

/// Bytes below the stack pointer which a leaf function may use.
const RED_ZONE: u64 = 128;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;
/// `struct _fpx_sw_bytes` lies here in the legacy area.
const SW_BYTES: std::ops::Range<usize> = 464..512;
const XSTATE_MAGIC1: u32 = 0x4650_5853;
const XSTATE_MAGIC2: u32 = 0x4650_5845;
const LEGACY_BYTES: usize = 512;
/// Where `XSTATE_BV` is.
const XSTATE_BV: std::ops::Range<usize> = 512..520;
const MXCSR: std::ops::Range<usize> = 24..28;
const MXCSR_INITIAL: u32 = 0x1f80;
const X87_AND_SSE: u64 = 3;
/// Flags a handler's return may set (`FIX_EFLAGS`).
const RESTORED_FLAGS: u64 = 0x0005_0dd5;
const FLAG_TRAP: u64 = 1 << 8;
const FLAG_DIRECTION: u64 = 1 << 10;
const FLAG_RESUME: u64 = 1 << 16;

/// Is `sp` on that stack? Never with SS_AUTODISARM: the kernel forgets the stack while it is in use.
fn is_on_stack(stack: &SigStack, sp: u64) -> bool {
    stack.flags as u32 & SS_AUTODISARM == 0
        && sp > stack.sp
        && sp.wrapping_sub(stack.sp) <= stack.size
}

pub(in crate::kernel) const SS_AUTODISARM: u32 = 1 << 31;

impl CurrentTask {
    /// SS_DISABLE, SS_ONSTACK or 0, for sigaltstack(2).
    pub(in crate::kernel) fn alt_stack_state(&self, sp: u64) -> i32 {
        if self.alt_stack.size == 0 {
            libc::SS_DISABLE
        } else if is_on_stack(&self.alt_stack, sp) {
            libc::SS_ONSTACK
        } else {
            0
        }
    }

    /// sigaltstack(2). `sp`: the guest's stack pointer now, which must not be on the stack that goes.
    pub(crate) fn set_alt_stack(&mut self, new: SigStack, sp: u64) -> SysResult<()> {
        if is_on_stack(&self.alt_stack, sp) {
            return err!(EPERM);
        }
        let mode = new.flags as u32 & !SS_AUTODISARM;
        let (disable, on_stack) = (libc::SS_DISABLE as u32, libc::SS_ONSTACK as u32);
        if mode != 0 && mode != disable && mode != on_stack {
            return err!(EINVAL);
        }
        self.alt_stack = if mode == disable {
            SigStack { sp: 0, size: 0, ..new }
        } else if new.size < libc::MINSIGSTKSZ as u64 {
            return err!(ENOMEM);
        } else {
            new
        };
        Ok(())
    }

    /// Puts the frame on the stack and the registers at the handler. `mask`: what `sigreturn` restores.
    pub(super) fn push_signal_frame(
        &mut self,
        signal: Signal,
        info: &SigInfo,
        action: &SigAction,
        mask: SigSet,
    ) -> Result<(), Errno> {
        if action.flags & sa::RESTORER == 0 {
            return Err(Errno::EFAULT);
        }
        let regs = *self.context.registers().map_err(|_| Errno::EFAULT)?;
        let xstate = self.context.xstate().map_err(|_| Errno::EFAULT)?.bytes.clone();
        let (frame_at, fp_at) = self.place_frame(&regs, action, xstate.len() as u64)?;

        self.mm.copy_out(UserAddr(fp_at), &xstate)?;
        let frame = RtSigFrame {
            pretcode: action.restorer,
            uc: UContext {
                flags: uc::FP_XSTATE | uc::SIGCONTEXT_SS | uc::STRICT_RESTORE_SS,
                link: 0,
                stack: self.alt_stack,
                mcontext: self.sig_context(&regs, mask, fp_at),
                sigmask: mask,
            },
            info: *info,
        };
        self.mm.write_obj(UserRef::new(frame_at), &frame)?;
        if self.alt_stack.flags as u32 & SS_AUTODISARM != 0 {
            self.alt_stack = SigStack { flags: libc::SS_DISABLE, ..SigStack::default() };
        }

        let info_at = frame_at.wrapping_add(std::mem::offset_of!(RtSigFrame, info) as u64);
        let uc_at = frame_at.wrapping_add(std::mem::offset_of!(RtSigFrame, uc) as u64);
        let regs = self.context.registers().map_err(|_| Errno::EFAULT)?;
        regs.rdi = signal.number() as u64;
        regs.rsi = info_at;
        regs.rdx = uc_at;
        regs.rax = 0;
        regs.rip = action.handler;
        regs.rsp = frame_at;
        regs.cs = USER_CS;
        regs.ss = USER_SS;
        regs.orig_rax = u64::MAX;
        regs.eflags &= !(FLAG_DIRECTION | FLAG_RESUME | FLAG_TRAP);
        // The handler starts with a fresh FPU.
        reset(self.context.xstate().map_err(|_| Errno::EFAULT)?);
        Ok(())
    }

    /// Addresses of the frame and of the FPU state above it.
    fn place_frame(
        &self,
        regs: &Registers,
        action: &SigAction,
        xstate_len: u64,
    ) -> Result<(u64, u64), Errno> {
        let stack = &self.alt_stack;
        let was_on = is_on_stack(stack, regs.rsp);
        let mut sp = regs.rsp.wrapping_sub(RED_ZONE);
        let mut on_alternate = was_on;
        if action.flags & sa::ONSTACK != 0 && self.alt_stack_state(regs.rsp) == 0 {
            sp = stack.sp.wrapping_add(stack.size);
            on_alternate = true;
        }
        let fp_at = sp.checked_sub(xstate_len).ok_or(Errno::EFAULT)? & !63;
        let frame_at = fp_at.checked_sub(size_of::<RtSigFrame>() as u64).ok_or(Errno::EFAULT)?;
        let frame_at = (frame_at & !15).checked_sub(8).ok_or(Errno::EFAULT)?;
        // An overflow of the alternate stack must not reach what lies below it.
        let fits = frame_at > stack.sp && frame_at.wrapping_sub(stack.sp) <= stack.size;
        if on_alternate && !fits {
            return Err(Errno::EFAULT);
        }
        Ok((frame_at, fp_at))
    }

    fn sig_context(&self, regs: &Registers, mask: SigSet, fpstate: u64) -> SigContext {
        let (trapno, err, cr2) = self.trap_numbers;
        SigContext {
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rbp: regs.rbp,
            rbx: regs.rbx,
            rdx: regs.rdx,
            rax: regs.rax,
            rcx: regs.rcx,
            rsp: regs.rsp,
            rip: regs.rip,
            eflags: regs.eflags,
            cs: USER_CS as u16,
            gs: 0,
            fs: 0,
            ss: USER_SS as u16,
            err,
            trapno,
            oldmask: mask.0,
            cr2,
            fpstate,
            reserved: [0; 8],
        }
    }

    /// rt_sigreturn(2): the registers, mask and stack of before.
    pub(crate) fn signal_return(&mut self) -> SysResult<Outcome> {
        if self.restore_frame().is_err() && !self.has_lost_its_process() {
            self.task.force_signal(SigInfo::kernel(Signal::SEGV));
        }
        Ok(Outcome::RegistersSet)
    }

    fn restore_frame(&mut self) -> Result<(), Errno> {
        let failed = |_| Errno::EFAULT;
        let frame_at = self.context.registers().map_err(failed)?.rsp.wrapping_sub(8);
        let uc_at = frame_at.wrapping_add(std::mem::offset_of!(RtSigFrame, uc) as u64);
        let frame: UContext = self.mm.read_obj(UserRef::new(uc_at))?;
        let saved = &frame.mcontext;
        let xstate = self.read_xstate(saved.fpstate)?;
        let regs = self.context.registers().map_err(failed)?;
        *regs = Registers {
            r15: saved.r15,
            r14: saved.r14,
            r13: saved.r13,
            r12: saved.r12,
            rbp: saved.rbp,
            rbx: saved.rbx,
            r11: saved.r11,
            r10: saved.r10,
            r9: saved.r9,
            r8: saved.r8,
            rax: saved.rax,
            rcx: saved.rcx,
            rdx: saved.rdx,
            rsi: saved.rsi,
            rdi: saved.rdi,
            orig_rax: u64::MAX,
            rip: saved.rip,
            eflags: (regs.eflags & !RESTORED_FLAGS) | (saved.eflags & RESTORED_FLAGS),
            rsp: saved.rsp,
            cs: USER_CS,
            ss: USER_SS,
            ..*regs
        };
        *self.context.xstate().map_err(failed)? = xstate;
        let stack = frame.stack;
        // As sigaltstack(2) would; what it refuses is left as it is.
        let _ = self.set_alt_stack(stack, saved.rsp);
        self.set_blocked(frame.sigmask);
        Ok(())
    }

    /// The state behind `at`, brought into the form the platform has.
    fn read_xstate(&mut self, at: u64) -> Result<XState, Errno> {
        let mut state = self.context.xstate().map_err(|_| Errno::EFAULT)?.clone();
        if at == 0 {
            reset(&mut state);
            return Ok(state);
        }
        let ours: Vec<u8> = state.bytes.get(SW_BYTES).map(<[u8]>::to_vec).unwrap_or_default();
        let full = state.bytes.len();
        let mut bytes = vec![0; full];
        let legacy = bytes.get_mut(..LEGACY_BYTES).ok_or(Errno::EFAULT)?;
        self.mm.copy_in(UserAddr(at), legacy)?;
        let word = |bytes: &[u8], at: usize| -> u32 {
            bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |b| u32::from_ne_bytes(*b))
        };
        let (magic, size) = (word(legacy, 464), word(legacy, 480) as usize);
        let whole = magic == XSTATE_MAGIC1 && size.checked_add(4) == Some(full) && {
            self.mm.copy_in(UserAddr(at), &mut bytes)?;
            word(&bytes, size) == XSTATE_MAGIC2
        };
        if !whole {
            // Only the legacy part counts; the rest starts fresh.
            if let Some(rest) = bytes.get_mut(LEGACY_BYTES..) {
                rest.fill(0);
            }
            put(&mut bytes, XSTATE_BV, &X87_AND_SSE.to_ne_bytes());
            put(&mut bytes, full.saturating_sub(4)..full, &XSTATE_MAGIC2.to_ne_bytes());
        }
        put(&mut bytes, SW_BYTES, &ours);
        state.bytes = bytes;
        Ok(state)
    }

    /// Remembers what the next frame's `trapno`, `err` and `cr2` say of a page fault.
    pub(super) fn note_fault(&mut self, addr: u64, access: AccessKind) {
        const PAGE_FAULT: u64 = 14;
        const USER: u64 = 4;
        let error = match access {
            AccessKind::Read => USER,
            AccessKind::Write => USER | 2,
            AccessKind::Execute => USER | 16,
        };
        self.trap_numbers = (PAGE_FAULT, error, addr);
    }
}

fn put(bytes: &mut [u8], range: std::ops::Range<usize>, value: &[u8]) {
    if let Some(to) = bytes.get_mut(range).filter(|to| to.len() == value.len()) {
        to.copy_from_slice(value);
    }
}

/// The state a new program starts with: no component in use.
pub(in crate::kernel) fn reset(state: &mut XState) {
    put(&mut state.bytes, XSTATE_BV, &0_u64.to_ne_bytes());
    put(&mut state.bytes, MXCSR, &MXCSR_INITIAL.to_ne_bytes());
}
