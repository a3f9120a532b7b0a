//! A guest thread as the sentry sees it.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering},
};

use linux_abi::Errno;

use super::{
    exception,
    kick::KvmKicker,
    machine::Machine,
    saved::{self, Saved},
    space::{KvmSpace, Resolved},
    stub,
    vcpu::{Entry, Event, Vcpu},
};
use crate::{
    AddressSpace, Answers, Context, Kick, PAGE_SIZE, PlatformError, Registers, Trap, XState,
    stub::layout::USER_END, vector,
};

const EFLAGS_TRAP: u64 = 0x100;
/// How often in a row a page that is mapped may fault before its entry is made anew, and before the
/// host is taken not to work.
const STALE_FAULTS: u32 = 8;
const STALE_FAULTS_MAX: u32 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct KvmContext {
    machine: Arc<Machine>,
    space: Arc<KvmSpace>,
    kicker: Arc<KvmKicker>,
    registers: Registers,
    /// FS and GS base in `registers` are right; what they were when they were fetched.
    bases: Option<(u64, u64)>,
    /// To be loaded before it runs on; lent to the sentry.
    xstate: Option<XState>,
    /// The rest of its state, when it is in no vCPU.
    saved: Arc<Saved>,
    /// The vCPU it had last.
    vcpu: Option<u64>,
    /// What its vCPU may answer.
    answers: Option<Answers>,
    single_step: bool,
    /// Whether the trap flag was on when it stopped.
    stepping: bool,
    /// Where a mapped page faulted last, and how often in a row.
    stale: (u64, u32),
}

impl KvmContext {
    pub(super) fn new(space: Arc<KvmSpace>) -> Self {
        let machine = space.machine.clone();
        let mut context = Self {
            machine,
            space,
            kicker: Arc::default(),
            registers: Registers::fresh(),
            bases: None,
            xstate: None,
            saved: Arc::default(),
            vcpu: None,
            answers: None,
            single_step: false,
            stepping: false,
            stale: (0, 0),
        };
        context.start_anew();
        context
    }

    fn start_anew(&mut self) {
        self.registers = Registers::fresh();
        self.xstate = Some(self.machine.format.initial());
        self.saved = Arc::default();
        self.saved.put(saved::State { xstate: self.machine.format.initial(), bases: (0, 0) });
        self.bases = None;
        self.vcpu = None;
        self.single_step = false;
        self.stale = (0, 0);
    }

    /// Runs guest code until something happens. True: there was a kick.
    fn run(&mut self) -> Result<(Event, bool), PlatformError> {
        self.space.check()?;
        let mut vcpu = self.machine.pool.acquire(&self.machine, self.vcpu)?;
        let event = self.load(&mut vcpu).and_then(|()| self.run_on(&mut vcpu));
        match event {
            Ok(_) => self.machine.pool.release(vcpu),
            Err(_) => self.machine.pool.discard(vcpu),
        }
        event
    }

    fn run_on(&mut self, vcpu: &mut Vcpu) -> Result<(Event, bool), PlatformError> {
        let own_trap = self.registers.eflags & EFLAGS_TRAP;
        let flags = if self.single_step { EFLAGS_TRAP } else { 0 };
        let entry = Entry { target: self.space.target(), flags, answers: self.answers };
        let event = vcpu.run(&self.machine, entry, &self.kicker, &mut self.registers)?;
        self.stepping = self.registers.eflags & EFLAGS_TRAP != 0;
        if self.single_step {
            self.registers.eflags = self.registers.eflags & !EFLAGS_TRAP | own_trap;
        }
        Ok(event)
    }

    /// Brings extended state and segment bases into the vCPU.
    fn load(&mut self, vcpu: &mut Vcpu) -> Result<(), PlatformError> {
        let mut bases = self.bases.take().map(|old| (old, self.named_bases()));
        if !vcpu.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, &self.saved)) {
            saved::unload(&self.machine, vcpu)?;
            let state = self.take_saved()?;
            if self.xstate.is_none() {
                self.xstate = Some(state.xstate);
            }
            if bases.is_none() {
                (self.registers.fs_base, self.registers.gs_base) = state.bases;
            }
            // What the vCPU has is somebody else's.
            bases = Some(((u64::MAX, u64::MAX), self.named_bases()));
            vcpu.live = Some(self.saved.clone());
            self.vcpu = Some(vcpu.sign.number);
            self.kicker.aim(&vcpu.sign);
        }
        if let Some((old, new)) = bases
            && old != new
        {
            vcpu.set_bases(new)?;
        }
        match self.xstate.take() {
            Some(xstate) => vcpu.set_xstate(&self.machine, xstate),
            None => Ok(()),
        }
    }

    fn named_bases(&self) -> (u64, u64) {
        (self.registers.fs_base, self.registers.gs_base)
    }

    /// What is in no vCPU, or is taken out of it.
    fn take_saved(&self) -> Result<saved::State, PlatformError> {
        loop {
            if let Some(state) = self.saved.take() {
                return Ok(state);
            }
            let Some(number) = self.vcpu else {
                return Err(PlatformError::StubDied("its vCPU broke".into()));
            };
            // Somebody else may be about to take it out.
            self.machine.pool.unload(&self.machine, number)?;
            if !self.machine.pool.knows(number) {
                return self.saved.take().ok_or_else(|| {
                    PlatformError::StubDied("the vCPU that had its state broke".into())
                });
            }
            std::thread::yield_now();
        }
    }

    /// Makes all of its state known here.
    fn fetch(&mut self) -> Result<(), PlatformError> {
        let state = self.take_saved()?;
        if self.bases.is_none() {
            (self.registers.fs_base, self.registers.gs_base) = state.bases;
            self.bases = Some(state.bases);
        }
        if self.xstate.is_none() {
            self.xstate = Some(state.xstate.clone());
        }
        self.saved.put(state);
        Ok(())
    }

    /// What to tell the sentry; `None`: the guest can go on.
    fn trap(&mut self, event: Event, kicked: bool) -> Result<Option<Trap>, PlatformError> {
        let trap = match event {
            Event::Interrupted if kicked || self.machine.pool.is_scarce() => {
                return Ok(Some(Trap::Interrupted));
            }
            Event::Interrupted => return Ok(None),
            Event::Syscall { compat } => self.syscall(compat),
            Event::Int80 => self.syscall(true),
            Event::NoMemory => {
                self.faulted_in_vain(0)?;
                self.space.forget(0..USER_END)?;
                return Ok(None);
            }
            Event::Exception { vector: vector::PAGE_FAULT, code, addr } => {
                return self.page_fault(code, addr);
            }
            Event::Exception { vector, code, .. } => {
                if self.is_int80(vector) {
                    self.registers.rip += 2;
                    self.registers.orig_rax = self.registers.rax;
                    self.syscall(true)
                } else {
                    self.exception(vector, code)?
                }
            }
        };
        self.stale = (0, 0);
        Ok(Some(trap))
    }

    fn syscall(&self, compat: bool) -> Trap {
        let regs = &self.registers;
        if !compat {
            // As the kernel: the upper half of RAX does not count.
            let number = i64::from(regs.orig_rax as i32) as u64;
            let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
            return Trap::Syscall { number, args, compat };
        }
        let args = [regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp];
        let args = args.map(|arg| u64::from(arg as u32));
        Trap::Syscall { number: u64::from(regs.orig_rax as u32), args, compat }
    }

    fn exception(&mut self, vector: u64, code: u64) -> Result<Trap, PlatformError> {
        if exception::wants_xstate(vector) {
            self.fetch()?;
        }
        let rip = self.registers.rip;
        let stepping = vector == vector::DEBUG && self.is_step();
        Ok(Trap::Exception(exception::info(vector, code, rip, stepping, self.xstate.as_ref())))
    }

    fn page_fault(&mut self, code: u64, addr: u64) -> Result<Option<Trap>, PlatformError> {
        if addr == stub::SYSCALL_VA
            && self.registers.rip == addr
            && self.machine.syscall_faults.load(Ordering::Relaxed)
        {
            // A SYSCALL, on a host that does not bring it to ring 0.
            self.registers.rip = self.registers.rcx;
            self.registers.eflags = self.registers.r11;
            self.registers.orig_rax = self.registers.rax;
            self.stale = (0, 0);
            return Ok(Some(self.syscall(false)));
        }
        let access = exception::access(code);
        match self.space.resolve(addr, access)? {
            Resolved::Filled => Ok(None),
            Resolved::WasThere => {
                self.faulted_in_vain(addr)?;
                Ok(None)
            }
            Resolved::Refused => {
                self.stale = (0, 0);
                Ok(Some(Trap::Fault { addr, access }))
            }
            Resolved::NoMemory => {
                self.stale = (0, 0);
                Ok(Some(Trap::Exception(exception::bus_error(addr, code))))
            }
        }
    }

    /// A fault where there should be none; often another thread was first. If it stays, the entry is made anew.
    fn faulted_in_vain(&mut self, addr: u64) -> Result<(), PlatformError> {
        let (last, count) = self.stale;
        self.stale = if last == addr { (addr, count + 1) } else { (addr, 1) };
        match self.stale.1 {
            STALE_FAULTS_MAX.. => Err(PlatformError::StubDied(format!(
                "this host's KVM does not see that {addr:#x} is mapped"
            ))),
            count if count.is_multiple_of(STALE_FAULTS) => {
                let page = addr & !(PAGE_SIZE - 1);
                self.space.forget(page..page + PAGE_SIZE)
            }
            _ => Ok(()),
        }
    }

    /// Whether a debug exception is a single step. Guests have no breakpoint registers: only one instruction
    /// raises it otherwise. The last step may have turned the flag off.
    fn is_step(&self) -> bool {
        const ICEBP: u8 = 0xf1;
        let mut code = [0];
        self.stepping
            || self.space.peek(self.registers.rip.wrapping_sub(1), &mut code) != code.len()
            || code != [ICEBP]
    }

    /// INT 0x80, on a host that takes it for no instruction.
    fn is_int80(&self, vector: u64) -> bool {
        let mut code = [0; 2];
        vector == vector::INVALID
            && self.machine.syscall_faults.load(Ordering::Relaxed)
            && self.space.peek(self.registers.rip, &mut code) == code.len()
            && code == [0xcd, 0x80]
    }
}

impl Context for KvmContext {
    fn switch(&mut self) -> Result<Trap, PlatformError> {
        loop {
            if self.registers.rip >> 47 != 0 {
                // No processor goes there; the return would fault in ring 0.
                return self.exception(vector::PROTECTION, 0);
            }
            let (event, kicked) = self.run()?;
            if let Some(trap) = self.trap(event, kicked)? {
                return Ok(trap);
            }
            if kicked {
                return Ok(Trap::Interrupted);
            }
        }
    }

    fn set_return(&mut self, value: u64) {
        self.registers.rax = value;
    }

    fn registers(&mut self) -> Result<&mut Registers, PlatformError> {
        if self.bases.is_none() {
            self.fetch()?;
        }
        Ok(&mut self.registers)
    }

    fn xstate(&mut self) -> Result<&mut XState, PlatformError> {
        if self.xstate.is_none() {
            self.fetch()?;
        }
        Ok(self.xstate.get_or_insert_with(|| self.machine.format.initial()))
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    fn move_to(&mut self, space: Arc<dyn AddressSpace>) -> Result<(), PlatformError> {
        let space: Arc<dyn Any + Send + Sync> = space;
        self.space = space.downcast::<KvmSpace>().map_err(|_| PlatformError::Host {
            what: "an address space of another platform",
            errno: Errno::EINVAL,
        })?;
        self.start_anew();
        Ok(())
    }

    fn set_answers(&mut self, answers: Option<Answers>) {
        self.answers = answers;
    }

    fn set_single_step(&mut self, on: bool) -> Result<(), PlatformError> {
        self.single_step = on;
        Ok(())
    }
}
