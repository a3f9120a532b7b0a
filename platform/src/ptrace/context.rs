//! A guest thread as the sentry sees it: registers that are fetched when asked for.

use std::{any::Any, io::IoSliceMut, sync::Arc};

use linux_abi::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};

use super::{
    decode::{self, INSTRUCTION_MAX},
    placement::Pair,
    space::PtraceSpace,
    tracee::{Event, Stopped},
};
use crate::{
    AccessKind, AddressSpace, Context, ExceptionInfo, Kick, PlatformError, Registers, Trap, XState,
    regs::{CODE_64, DATA},
    stub::Kicker,
    vector,
};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const CODE_32: u64 = 0x23;

/// `si_code` of faults that are page faults.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const SEGV_PKUERR: i32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct PtraceContext {
    space: Arc<PtraceSpace>,
    /// `None` when the thread is gone.
    thread: Option<Stopped>,
    /// Its thread id on the host.
    tid: i32,
    kicker: Arc<Kicker>,
    pair: Pair,
    /// What the thread has, when they were fetched.
    registers: Option<Registers>,
    /// What it is to have; with `registers`.
    wanted: Registers,
    xstate: Option<XState>,
    /// What the system call at which it stopped returns.
    call: Option<u64>,
    single_step: bool,
    /// The last page fault, if nothing else happened since: where, on what, how.
    fault: Option<(u64, u64, AccessKind)>,
}

/// What the kernel would take for a request to restart a call (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK`) when a signal is pending at its end.
fn is_restart(value: u64) -> bool {
    (-516..=-512).contains(&(value as i64))
}

impl PtraceContext {
    pub(super) fn new(space: Arc<PtraceSpace>) -> Result<Self, PlatformError> {
        let kicker = space.shared.system.kicker();
        let pair = space.shared.placement.new_pair();
        let mut context = Self {
            space,
            thread: None,
            tid: 0,
            kicker,
            pair,
            registers: None,
            wanted: Registers::fresh(),
            xstate: None,
            call: None,
            single_step: false,
            fault: None,
        };
        context.take_thread()?;
        Ok(context)
    }

    /// Takes a guest thread of the space, with fresh registers.
    fn take_thread(&mut self) -> Result<(), PlatformError> {
        let (thread, tid) = self.space.thread()?;
        let thread = self.thread.insert(thread);
        self.tid = tid;
        self.registers = Some(Registers::default());
        self.wanted = Registers::fresh();
        self.call = None;
        self.fault = None;
        self.xstate = Some(self.space.format(thread)?.initial());
        self.kicker.aim(self.space.process.pid(), tid);
        self.space.process.add_kicker(&self.kicker);
        self.pair.aim(tid);
        Ok(())
    }

    fn leave_thread(&mut self) {
        self.kicker.aim(0, 0);
        self.pair.aim(0);
        if let Some(thread) = self.thread.take() {
            self.space.put_back(thread, self.tid);
        }
    }

    fn gone(&mut self, errno: Errno) -> PlatformError {
        self.thread = None;
        self.space.lost(self.tid, errno)
    }

    fn run(&mut self) -> Result<Trap, PlatformError> {
        let Some(thread) = self.thread.take() else { return Err(self.space.process.death()) };
        let event = self.run_thread(thread).map_err(|errno| self.gone(errno))?;
        match event {
            Event::Syscall => self.syscall(),
            Event::Signal(signal) => self.signal(signal),
            Event::Stop => Ok(Trap::Interrupted),
        }
    }

    /// Brings the thread's state up to date, lets it run, and waits until it stops.
    fn run_thread(&mut self, mut thread: Stopped) -> Result<Event, Errno> {
        if let Some(xstate) = self.xstate.take()
            && let Some(format) = self.space.shared.format.get()
        {
            let mut bytes = xstate.bytes;
            bytes.resize(format.len, 0);
            format.finish(&mut bytes);
            // The kernel wants its whole length, without the last magic.
            bytes.truncate(format.len.saturating_sub(4));
            bytes.resize(format.regset_len, 0);
            thread.set_xstate(&mut bytes)?;
        }
        let call = self.call.take();
        match self.registers.take() {
            // They were not asked for, or nothing but the result is new.
            Some(has) if !same_but_rax(&has, &self.wanted) => {
                thread.set_registers(&harmless(self.wanted))?;
            }
            fetched => {
                let value = match fetched {
                    Some(has) if call.is_none() && has.rax == self.wanted.rax => None,
                    Some(_) => Some(self.wanted.rax),
                    None => call,
                };
                if let Some(value) = value {
                    thread.set_result(value)?;
                    if is_restart(value) {
                        thread.forget_call()?;
                    }
                }
            }
        }
        self.pair.enter();
        let stopped = thread.resume(self.single_step).and_then(|running| running.wait());
        self.pair.leave();
        let (thread, event) = stopped?;
        self.thread = Some(thread);
        Ok(event)
    }

    fn syscall(&mut self) -> Result<Trap, PlatformError> {
        self.fault = None;
        let info = match self.thread.as_ref().map(Stopped::syscall) {
            Some(Ok(info)) => info,
            Some(Err(errno)) => return Err(self.gone(errno)),
            None => return Err(self.space.process.death()),
        };
        self.call = Some(info.number);
        Ok(Trap::Syscall {
            number: info.number,
            args: info.args,
            compat: info.arch != AUDIT_ARCH_X86_64,
        })
    }

    fn signal(&mut self, signal: i32) -> Result<Trap, PlatformError> {
        let synchronous = matches!(
            signal,
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP
        );
        if !synchronous {
            return Ok(Trap::Interrupted);
        }
        let info = match self.thread.as_ref().map(Stopped::signal_info) {
            Some(Ok(info)) => info,
            Some(Err(errno)) => return Err(self.gone(errno)),
            None => return Err(self.space.process.death()),
        };
        // What another process sent is no exception: codes of the kernel's are positive.
        if info.code <= 0 {
            return Ok(Trap::Interrupted);
        }
        let paged = matches!(info.code, SEGV_MAPERR | SEGV_ACCERR | SEGV_PKUERR);
        if signal == libc::SIGSEGV && paged {
            return self.page_fault(info.addr);
        }
        self.fault = None;
        let trapno = match signal {
            libc::SIGSEGV => vector::PROTECTION,
            libc::SIGBUS if info.code == 1 => vector::ALIGNMENT,
            libc::SIGBUS => vector::PAGE_FAULT,
            libc::SIGFPE if info.code <= 2 => vector::DIVIDE,
            libc::SIGFPE => vector::SIMD,
            libc::SIGILL => vector::INVALID,
            _ if info.code == 0x80 => vector::BREAKPOINT,
            _ => vector::DEBUG,
        };
        let addr = if signal == libc::SIGSEGV { 0 } else { info.addr };
        let info = ExceptionInfo { signal, code: info.code, addr, trapno, error_code: 0 };
        Ok(Trap::Exception(info))
    }

    /// A page fault, whose kind ptrace(2) does not tell. The instruction does; where it is not
    /// certain a read is assumed, and a write when that did not help.
    fn page_fault(&mut self, addr: u64) -> Result<Trap, PlatformError> {
        self.fetch()?;
        let rip = self.wanted.rip;
        let mut code = [0; INSTRUCTION_MAX];
        let code = self.instruction(rip, &mut code);
        let again = self.fault.filter(|last| (last.0, last.1) == (rip, addr)).map(|last| last.2);
        // Fetching an instruction faults where it starts, or on the page where it goes on.
        let ends_there = rip < addr && addr.wrapping_sub(rip) == code.len() as u64;
        let fetching = addr == rip || (ends_there && code.len() < INSTRUCTION_MAX);
        let access = match (again, decode::access(code, &self.wanted, addr)) {
            (None, _) if fetching => AccessKind::Execute,
            (_, Some(access)) => access,
            (None, None) => AccessKind::Read,
            (Some(_), None) => AccessKind::Write,
        };
        self.fault = Some((rip, addr, access));
        Ok(Trap::Fault { addr, access })
    }

    /// The bytes at `rip` that can be read.
    fn instruction<'a>(&self, rip: u64, code: &'a mut [u8; INSTRUCTION_MAX]) -> &'a [u8] {
        // Only whole pieces are read: first what lies on this page.
        let on_page = ((4096 - (rip & 4095)) as usize).min(INSTRUCTION_MAX);
        let pid = nix::unistd::Pid::from_raw(self.space.process.pid());
        let remote = [
            RemoteIoVec { base: rip as usize, len: on_page },
            RemoteIoVec {
                base: (rip as usize).wrapping_add(on_page),
                len: INSTRUCTION_MAX - on_page,
            },
        ];
        let read = process_vm_readv(pid, &mut [IoSliceMut::new(code)], &remote).unwrap_or(0);
        code.get(..read).unwrap_or_default()
    }

    /// Fetches the registers unless they are here.
    fn fetch(&mut self) -> Result<(), PlatformError> {
        if self.registers.is_some() {
            return Ok(());
        }
        let mut registers = match self.thread.as_ref().map(Stopped::registers) {
            Some(Ok(registers)) => registers,
            Some(Err(errno)) => return Err(self.gone(errno)),
            None => return Err(self.space.process.death()),
        };
        match self.call {
            Some(result) => {
                // The thread itself has -ENOSYS there: the result must be written.
                registers.rax = registers.orig_rax;
                self.wanted = Registers { rax: result, ..registers };
            }
            None => {
                registers.orig_rax = u64::MAX;
                self.wanted = registers;
            }
        }
        self.registers = Some(registers);
        Ok(())
    }
}

fn same_but_rax(a: &Registers, b: &Registers) -> bool {
    Registers { rax: 0, orig_rax: 0, ..*a } == Registers { rax: 0, orig_rax: 0, ..*b }
}

/// What the kernel accepts, and what leads it to no restart of a system call.
fn harmless(registers: Registers) -> Registers {
    let user = |base: u64| if base >> 47 == 0 { base } else { 0 };
    Registers {
        orig_rax: u64::MAX,
        cs: if registers.cs == CODE_32 { CODE_32 } else { CODE_64 },
        ss: DATA,
        fs_base: user(registers.fs_base),
        gs_base: user(registers.gs_base),
        ds: 0,
        es: 0,
        fs: 0,
        gs: 0,
        ..registers
    }
}

impl Context for PtraceContext {
    fn switch(&mut self) -> Result<Trap, PlatformError> {
        if !self.kicker.enter() {
            return Ok(Trap::Interrupted);
        }
        let trap = self.run();
        self.kicker.leave();
        trap
    }

    fn set_return(&mut self, value: u64) {
        if self.call.is_some() {
            self.call = Some(value);
        }
        self.wanted.rax = value;
    }

    fn registers(&mut self) -> Result<&mut Registers, PlatformError> {
        self.fetch()?;
        Ok(&mut self.wanted)
    }

    fn xstate(&mut self) -> Result<&mut XState, PlatformError> {
        let xstate = match self.xstate.take() {
            Some(xstate) => xstate,
            None => {
                let bytes = match self.thread.as_ref().map(Stopped::xstate) {
                    Some(Ok(bytes)) => bytes,
                    Some(Err(errno)) => return Err(self.gone(errno)),
                    None => return Err(self.space.process.death()),
                };
                let Some(thread) = &self.thread else { return Err(self.space.process.death()) };
                let format = self.space.format(thread)?;
                let mut bytes = bytes;
                bytes.resize(format.len, 0);
                format.finish(&mut bytes);
                XState { bytes }
            }
        };
        Ok(self.xstate.insert(xstate))
    }

    fn kicker(&self) -> Arc<dyn Kick> {
        self.kicker.clone()
    }

    fn move_to(&mut self, space: Arc<dyn AddressSpace>) -> Result<(), PlatformError> {
        let space: Arc<dyn Any + Send + Sync> = space;
        let space = space.downcast::<PtraceSpace>().map_err(|_| PlatformError::Host {
            what: "an address space of another platform",
            errno: Errno::EINVAL,
        })?;
        self.leave_thread();
        self.space = space;
        self.single_step = false;
        self.take_thread()
    }

    fn set_single_step(&mut self, on: bool) -> Result<(), PlatformError> {
        self.single_step = on;
        Ok(())
    }
}

impl Drop for PtraceContext {
    fn drop(&mut self) {
        self.leave_thread();
    }
}
