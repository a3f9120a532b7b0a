//! A guest thread as the sentry sees it: registers that are fetched when asked for.

use std::{any::Any, sync::Arc};

use linux_abi::Errno;

use super::{
    extended,
    space::SystrapSpace,
    thread::{GuestThread, State, Stop},
};
use crate::{
    AccessKind, AddressSpace, Context, ExceptionInfo, Kick, PlatformError, Registers, Trap, XState,
    stub::{Kicker, layout::KICK_SIGNAL},
};

/// Page fault, and its error-code bits (`arch/x86/include/asm/trap_pf.h`).
const TRAP_PAGE_FAULT: u64 = 14;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_EXECUTE: u64 = 1 << 4;
const EFLAGS_INITIAL: u64 = 0x202;
const EFLAGS_TRAP: u64 = 1 << 8;
const CODE_64: u64 = 0x33;
const DATA: u64 = 0x2b;

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
}

fn fresh_registers() -> Registers {
    Registers {
        cs: CODE_64,
        ss: DATA,
        eflags: EFLAGS_INITIAL,
        orig_rax: u64::MAX,
        ..Registers::default()
    }
}

impl SystrapContext {
    pub(super) fn new(space: Arc<SystrapSpace>) -> Result<Self, PlatformError> {
        let kicker = space.system.kicker();
        let mut context = Self {
            space,
            thread: None,
            kicker,
            registers: fresh_registers(),
            fetched: true,
            xstate: None,
            result: 0,
            single_step: false,
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
        self.registers = fresh_registers();
        self.fetched = true;
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
        match thread.state {
            State::Call(call) => thread.answer_call(process, call, self.result)?,
            State::Stop(stop) => {
                let mut bases = (stop.fs_base, stop.gs_base);
                if self.fetched {
                    if self.single_step {
                        self.registers.eflags |= EFLAGS_TRAP;
                    }
                    stop.frame.write(process.control(), thread.slot, &self.registers);
                    bases = (self.registers.fs_base, self.registers.gs_base);
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
        self.fetched = false;
        self.xstate = None;
        Ok(match thread.state {
            State::Call(call) => {
                self.result = call.number;
                Trap::Syscall { number: call.number, args: call.args, compat: call.compat }
            }
            State::Stop(stop) => self.trap(stop),
            State::Running => Trap::Interrupted,
        })
    }

    fn trap(&self, stop: Stop) -> Trap {
        let cause = stop.frame.cause(self.space.process.control());
        // What another process sent is no exception: codes of the kernel's are positive.
        if stop.signal == KICK_SIGNAL || cause.code <= 0 {
            return Trap::Interrupted;
        }
        if stop.signal == libc::SIGSEGV && cause.trapno == TRAP_PAGE_FAULT {
            let access = if cause.error_code & FAULT_EXECUTE != 0 {
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
                Some(call)
            }
            _ => None,
        };
        let State::Stop(stop) = thread.state else { return Err(process.death()) };
        self.registers = stop.frame.read(process.control());
        self.registers.fs_base = stop.fs_base;
        self.registers.gs_base = stop.gs_base;
        if let Some(call) = call {
            self.registers.rax = self.result;
            self.registers.orig_rax = call.number;
        }
        if self.single_step {
            self.registers.eflags &= !EFLAGS_TRAP;
        }
        self.fetched = true;
        Ok(())
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
            None => {
                let process = &self.space.process;
                let Some(thread) = &self.thread else { return Err(process.death()) };
                let State::Stop(stop) = thread.state else { return Err(process.death()) };
                let format = self.space.format(thread)?;
                extended::read(format, process.control(), thread.slot, stop.frame)
                    .ok_or_else(|| process.corrupted("a frame without extended state"))?
            }
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
