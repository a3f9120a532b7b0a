//! One traced thread: ptrace(2) behind types that know whether it is stopped.
//!
//! A [`Stopped`] or [`Running`] belongs to the host thread that made it: only that one is the
//! tracer. Used elsewhere, or when the thread is gone, each call says ESRCH or ECHILD.

#![allow(unsafe_code, reason = "ptrace(2) and waitpid(2)")]

use std::ptr;

use linux_abi::Errno;

use crate::Registers;

const GET_SYSCALL_INFO: u32 = 0x420e;
const SETSIGMASK: u32 = 0x420b;
const SYSEMU: u32 = 31;
const SYSEMU_SINGLESTEP: u32 = 32;
const NT_X86_XSTATE: u64 = 0x202;
/// `__WNOTHREAD`: not what other threads of this process trace.
const WAIT_OWN: i32 = libc::__WALL | libc::__WNOTHREAD;
/// What `PTRACE_O_TRACESYSGOOD` makes of SIGTRAP at a system call.
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

/// Offsets in `struct user`.
const RAX: u64 = 80;
const ORIG_RAX: u64 = 120;

/// A thread that waits for its tracer.
#[derive(Debug)]
pub(super) struct Stopped {
    tid: i32,
}

/// A thread that was let go.
#[derive(Debug)]
#[must_use]
pub(super) struct Running {
    tid: i32,
}

/// Why a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// At a system call, which will not be made.
    Syscall,
    /// A signal is about to be delivered. It is not, unless the tracer says so.
    Signal(i32),
    /// The tracer interrupted it, or another stop of no importance.
    Stop,
}

/// `struct ptrace_syscall_info` at a system call's entry.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    pub(super) arch: u32,
    /// Behind the instruction.
    pub(super) ip: u64,
    pub(super) sp: u64,
    pub(super) number: u64,
    pub(super) args: [u64; 6],
}

/// Of a CPU exception: `si_code` and `si_addr`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignalInfo {
    pub(super) code: i32,
    pub(super) addr: u64,
}

fn request(request: u32, tid: i32, addr: u64, data: u64) -> Result<i64, Errno> {
    // SAFETY: the callers below pass what each request reads or writes; `data` is a number or
    // points to a value of theirs that lives through the call.
    let result = unsafe { libc::ptrace(request, tid, addr, data) };
    if result < 0 { Err(std::io::Error::last_os_error().into()) } else { Ok(result) }
}

fn address<T>(value: &mut T) -> u64 {
    ptr::from_mut(value).expose_provenance() as u64
}

/// Becomes the tracer of a thread, which goes on running until it is interrupted here.
pub(super) fn seize(tid: i32) -> Result<Running, Errno> {
    let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD;
    request(libc::PTRACE_SEIZE, tid, 0, options as u64)?;
    request(libc::PTRACE_INTERRUPT, tid, 0, 0)?;
    Ok(Running { tid })
}

impl Running {
    /// Waits until it stops.
    ///
    /// # Errors
    /// ESRCH when it has ended.
    pub(super) fn wait(self) -> Result<(Stopped, Event), Errno> {
        let status = wait(self.tid)?;
        if !libc::WIFSTOPPED(status) {
            return Err(Errno::ESRCH);
        }
        let event = match libc::WSTOPSIG(status) {
            _ if status >> 16 != 0 => Event::Stop,
            SYSCALL_STOP => Event::Syscall,
            signal => Event::Signal(signal),
        };
        Ok((Stopped { tid: self.tid }, event))
    }
}

fn wait(tid: i32) -> Result<i32, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours.
        if unsafe { libc::waitpid(tid, &mut status, WAIT_OWN) } == tid {
            return Ok(status);
        }
        let errno = Errno::from(std::io::Error::last_os_error());
        if errno != Errno::EINTR {
            return Err(Errno::ESRCH);
        }
    }
}

/// Takes the remains of a thread whose process was killed: until then the process is there.
pub(super) fn reap(tid: i32) {
    while wait(tid).is_ok_and(|status| libc::WIFSTOPPED(status)) {}
}

impl Stopped {
    /// Lets it run until the next system call, or by one instruction.
    pub(super) fn resume(self, step: bool) -> Result<Running, Errno> {
        let how = if step { SYSEMU_SINGLESTEP } else { SYSEMU };
        request(how, self.tid, 0, 0)?;
        Ok(Running { tid: self.tid })
    }

    /// Lets it run without a tracer.
    pub(super) fn detach(self) -> Result<(), Errno> {
        request(libc::PTRACE_DETACH, self.tid, 0, 0).map(drop)
    }

    pub(super) fn registers(&self) -> Result<Registers, Errno> {
        let mut registers = Registers::default();
        request(libc::PTRACE_GETREGS, self.tid, 0, address(&mut registers))?;
        Ok(registers)
    }

    pub(super) fn set_registers(&mut self, registers: &Registers) -> Result<(), Errno> {
        let mut registers = *registers;
        request(libc::PTRACE_SETREGS, self.tid, 0, address(&mut registers)).map(drop)
    }

    /// Sets `rax` alone.
    pub(super) fn set_result(&mut self, value: u64) -> Result<(), Errno> {
        request(libc::PTRACE_POKEUSER, self.tid, RAX, value).map(drop)
    }

    /// Makes the kernel forget that it is in a system call, and so not restart one.
    pub(super) fn forget_call(&mut self) -> Result<(), Errno> {
        request(libc::PTRACE_POKEUSER, self.tid, ORIG_RAX, u64::MAX).map(drop)
    }

    /// The system call at which it stopped.
    pub(super) fn syscall(&self) -> Result<SyscallInfo, Errno> {
        let mut info = SyscallInfo::default();
        let len = size_of::<SyscallInfo>() as u64;
        request(GET_SYSCALL_INFO, self.tid, len, address(&mut info))?;
        Ok(info)
    }

    /// Details of the signal at which it stopped.
    pub(super) fn signal_info(&self) -> Result<SignalInfo, Errno> {
        // siginfo_t: signal, errno, code, a gap, then the address.
        let mut words = [0u64; 16];
        request(libc::PTRACE_GETSIGINFO, self.tid, 0, address(&mut words))?;
        let [_, code, addr, ..] = words;
        Ok(SignalInfo { code: code as u32 as i32, addr })
    }

    /// Sets its mask of blocked signals.
    pub(super) fn set_signal_mask(&mut self, mut mask: u64) -> Result<(), Errno> {
        request(SETSIGMASK, self.tid, 8, address(&mut mask)).map(drop)
    }

    /// Its extended state, as long as the kernel has it.
    pub(super) fn xstate(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0u8; 16 << 10];
        let len = self.move_xstate(libc::PTRACE_GETREGSET, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Sets its extended state; of the length that [`Self::xstate`] has.
    pub(super) fn set_xstate(&mut self, bytes: &mut [u8]) -> Result<(), Errno> {
        self.move_xstate(libc::PTRACE_SETREGSET, bytes).map(drop)
    }

    fn move_xstate(&self, how: u32, bytes: &mut [u8]) -> Result<usize, Errno> {
        let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        request(how, self.tid, NT_X86_XSTATE, address(&mut vector))?;
        Ok(vector.iov_len)
    }
}
