//! A guest thread as the sentry sees it: registers that are fetched when asked for.

use std::{any::Any, sync::Arc};

use linux_abi::Errno;

use super::{
    call::CallSlot,
    extended,
    hot_sites::HotSites,
    space::SystrapSpace,
    thread::{GuestThread, State, Stop},
};
use crate::{
    AccessKind, AddressSpace, Answers, Context, ExceptionInfo, Kick, PlatformError, Registers,
    Trap, XState,
    stub::{Kicker, layout::KICK_SIGNAL},
    vector,
};

/// Bits of a page fault's error code (`arch/x86/include/asm/trap_pf.h`).
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_EXECUTE: u64 = 1 << 4;
const EFLAGS_TRAP: u64 = 1 << 8;

/// See the module.
#[derive(Debug)]
pub(super) struct SystrapContext {
    space: Arc<SystrapSpace>,
    /// `None` only after a failed move.
    thread: Option<GuestThread>,
    kicker: Arc<Kicker>,
    registers: Registers,
    /// `registers` hold, and go into the frame before the thread runs on.
    fetched: bool,
    /// Holds, and goes into the frame.
    xstate: Option<XState>,
    /// What the system call returns, while the registers are not fetched.
    result: u64,
    single_step: bool,
    /// The guest's own GS base. While it is 0, GS is the thread's slot.
    gs_base: u64,
    answers: Option<Answers>,
    hot_sites: HotSites,
}

impl SystrapContext {
    pub(super) fn new(space: Arc<SystrapSpace>) -> Result<Self, PlatformError> {
        let kicker = space.system.kicker();
        let mut context = Self {
            space,
            thread: None,
            kicker,
            registers: Registers::fresh(),
            fetched: true,
            xstate: None,
            result: 0,
            single_step: false,
            gs_base: 0,
            answers: None,
            hot_sites: HotSites::default(),
        };
        context.take_thread()?;
        Ok(context)
    }

    /// Takes a guest thread of the space, with fresh registers.
    fn take_thread(&mut self) -> Result<(), PlatformError> {
        let mut thread = self.space.thread()?;
        if let State::Call(call) = thread.state {
            // On failure the listener closes, and the thread must not run on.
            let fetched = thread.fetch(&self.space.process, call);
            fetched.inspect_err(|_| self.space.process.kill())?;
        }
        self.xstate = Some(self.space.format(&thread)?.initial());
        self.registers = Registers::fresh();
        self.fetched = true;
        self.gs_base = 0;
        self.hot_sites = HotSites::default();
        thread.start_over();
        thread.set_answers(&self.space.process, self.answers.as_ref());
        self.kicker.aim(self.space.process.pid(), thread.tid);
        self.space.process.add_kicker(&self.kicker);
        self.thread = Some(thread);
        Ok(())
    }

    fn leave_thread(&mut self) {
        self.kicker.aim(0, 0);
        if let Some(thread) = self.thread.take() {
            // A thread that is lost in guest code would run on with nobody to serve it.
            if matches!(thread.state, State::Running) {
                self.space.process.kill();
            }
            self.space.put_back(thread);
        }
    }

    fn run(&mut self) -> Result<Trap, PlatformError> {
        if self.single_step {
            self.fetch()?;
        }
        let process = &self.space.process;
        let Some(thread) = &mut self.thread else { return Err(process.death()) };
        if let State::Post(post) = thread.state
            && self.fetched
            && (!CallSlot::can_load(&self.registers) || self.single_step)
        {
            thread.make_frame(process, post)?;
        }
        thread.load().enter();
        let ran = self.run_thread();
        if let Some(thread) = &self.thread {
            thread.load().leave();
        }
        ran?;
        self.fetched = false;
        self.xstate = None;
        let Some(thread) = &self.thread else { return Err(self.space.process.death()) };
        Ok(match thread.state {
            State::Call(call) => {
                self.result = call.number;
                if !call.compat {
                    self.hot_sites.note(call.ip.wrapping_sub(2));
                }
                Trap::Syscall { number: call.number, args: call.args, compat: call.compat }
            }
            State::Post(post) => {
                self.result = post.number;
                Trap::Syscall { number: post.number, args: post.args, compat: false }
            }
            State::Stop(stop) => self.trap(stop),
            State::Running => Trap::Interrupted,
        })
    }

    /// Lets the thread run until its next stop.
    fn run_thread(&mut self) -> Result<(), PlatformError> {
        let process = &self.space.process;
        let Some(thread) = &mut self.thread else { return Err(process.death()) };
        match thread.state {
            State::Call(call) => thread.answer_call(process, call, self.result)?,
            State::Post(post) if !self.fetched => {
                thread.answer_post(process, post, self.result)?;
            }
            State::Post(post) => {
                let mut regs = self.registers;
                regs.rip = self.space.sites.resume_at(regs.rip);
                let xstate = self.xstate.take().map(|mut state| {
                    if let Ok(format) = self.space.format(thread) {
                        state.bytes.resize(format.len, 0);
                        format.finish(&mut state.bytes);
                    }
                    state
                });
                thread.load_registers(process, post, &regs, xstate)?;
            }
            State::Stop(stop) => {
                let mut bases = (stop.fs_base, stop.gs_base);
                if self.fetched {
                    if self.single_step {
                        self.registers.eflags |= EFLAGS_TRAP;
                    }
                    let mut regs = self.registers;
                    regs.rip = self.space.sites.resume_at(regs.rip);
                    stop.frame.write(process.control(), thread.slot, &regs);
                    self.gs_base = regs.gs_base;
                    let real = if regs.gs_base == 0 { thread.slot.address() } else { regs.gs_base };
                    bases = (regs.fs_base, real);
                }
                if let Some(xstate) = &self.xstate {
                    let format = self.space.format(thread)?;
                    extended::write(format, process.control(), thread.slot, stop.frame, xstate)
                        .ok_or_else(|| process.corrupted("a frame without extended state"))?;
                }
                thread.answer_stop(process, stop, bases)?;
            }
            State::Running => return Err(process.death()),
        }
        Ok(())
    }

    fn trap(&self, stop: Stop) -> Trap {
        let control = self.space.process.control();
        let cause = stop.frame.cause(control);
        // What another process sent is no exception: codes of the kernel's are positive. What
        // hit the stub on the way of a call is over: the call starts again.
        if stop.signal == KICK_SIGNAL || cause.code <= 0 || stop.in_stub {
            return Trap::Interrupted;
        }
        // Behind a call in a rewritten site there is none of the site's own code.
        if matches!(stop.signal, libc::SIGILL | libc::SIGSEGV | libc::SIGTRAP) {
            let rip = stop.frame.rip(control);
            let behind = self.space.sites.resume_at(rip);
            if behind != rip {
                stop.frame.set_rip(control, behind);
                return Trap::Interrupted;
            }
        }
        if stop.signal == libc::SIGSEGV && cause.trapno == vector::PAGE_FAULT {
            let access = if cause.error_code & FAULT_EXECUTE != 0 {
                // The call it returns from, or another thread, unmapped the detour.
                if let Some(own) = self.space.sites.leave_detour(cause.addr) {
                    stop.frame.set_rip(control, own);
                    return Trap::Interrupted;
                }
                AccessKind::Execute
            } else if cause.error_code & FAULT_WRITE != 0 {
                AccessKind::Write
            } else {
                AccessKind::Read
            };
            return Trap::Fault { addr: cause.addr, access };
        }
        Trap::Exception(ExceptionInfo {
            signal: stop.signal,
            code: cause.code,
            addr: cause.addr,
            trapno: cause.trapno,
            error_code: cause.error_code,
        })
    }

    /// Fetches the registers unless they are here.
    fn fetch(&mut self) -> Result<(), PlatformError> {
        if self.fetched {
            return Ok(());
        }
        let process = &self.space.process;
        let Some(thread) = &mut self.thread else { return Err(process.death()) };
        let call = match thread.state {
            State::Call(call) => {
                thread.fetch(process, call)?;
                Some(call.number)
            }
            State::Post(post) => Some(post.number),
            _ => None,
        };
        match thread.state {
            State::Post(_) => self.registers = thread.call_slot(process).registers(),
            State::Stop(stop) => {
                self.registers = stop.frame.read(process.control());
                self.registers.fs_base = stop.fs_base;
                let own = stop.gs_base != thread.slot.address();
                self.registers.gs_base = if own { stop.gs_base } else { self.gs_base };
            }
            _ => return Err(process.death()),
        }
        self.registers.rip = self.space.sites.guest_address(self.registers.rip);
        if let Some(number) = call {
            self.registers.rax = self.result;
            self.registers.orig_rax = number;
            self.registers.rcx = self.registers.rip;
        }
        if self.single_step {
            self.registers.eflags &= !EFLAGS_TRAP;
        }
        self.fetched = true;
        Ok(())
    }
}

impl SystrapContext {
    fn read_xstate(&mut self) -> Result<XState, PlatformError> {
        let process = &self.space.process;
        let Some(thread) = &mut self.thread else { return Err(process.death()) };
        if let State::Post(post) = thread.state {
            thread.save_extended(process, post)?;
        }
        let format = self.space.format(thread)?;
        match thread.state {
            State::Post(_) => {
                let mut bytes = vec![0; format.len];
                process.control().read_bytes(thread.call_slot(process).xstate(), &mut bytes);
                format.finish(&mut bytes);
                Ok(XState { bytes })
            }
            State::Stop(stop) => extended::read(format, process.control(), thread.slot, stop.frame)
                .ok_or_else(|| process.corrupted("a frame without extended state")),
            _ => Err(process.death()),
        }
    }
}

impl Context for SystrapContext {
    fn switch(&mut self) -> Result<Trap, PlatformError> {
        if !self.kicker.enter() {
            return Ok(Trap::Interrupted);
        }
        let trap = self.run();
        self.kicker.leave();
        trap
    }

    fn set_return(&mut self, value: u64) {
        self.result = value;
        if self.fetched {
            self.registers.rax = value;
        }
    }

    fn registers(&mut self) -> Result<&mut Registers, PlatformError> {
        self.fetch()?;
        Ok(&mut self.registers)
    }

    fn xstate(&mut self) -> Result<&mut XState, PlatformError> {
        self.fetch()?;
        let xstate = match self.xstate.take() {
            Some(xstate) => xstate,
            None => self.read_xstate()?,
        };
        Ok(self.xstate.insert(xstate))
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    fn move_to(&mut self, space: Arc<dyn AddressSpace>) -> Result<(), PlatformError> {
        let space: Arc<dyn Any + Send + Sync> = space;
        let space = space.downcast::<SystrapSpace>().map_err(|_| PlatformError::Host {
            what: "an address space of another platform",
            errno: Errno::EINVAL,
        })?;
        self.leave_thread();
        self.space = space;
        self.single_step = false;
        self.take_thread()
    }

    fn set_answers(&mut self, answers: Option<Answers>) {
        self.answers = answers;
        if let Some(thread) = &self.thread {
            thread.set_answers(&self.space.process, self.answers.as_ref());
        }
    }

    fn take_hot_site(&mut self) -> Option<u64> {
        self.hot_sites.take()
    }

    fn set_single_step(&mut self, on: bool) -> Result<(), PlatformError> {
        self.fetch()?;
        self.single_step = on;
        Ok(())
    }
}

impl Drop for SystrapContext {
    fn drop(&mut self) {
        self.leave_thread();
    }
}
