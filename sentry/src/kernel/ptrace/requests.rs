//! What a tracer asks for.

use std::sync::Arc;

use linux_abi::{SigInfo, SigSet, Signal};
use platform::Registers;

use super::{About, Command, Mode, Options, Stop, Trace, access::poke};
use crate::{
    Errno, SysResult, err,
    kernel::{CurrentTask, Registration, Task},
    user::{UserAddr, UserMemory, UserRef},
};

const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;
/// `struct user_fpregs_struct` and `struct user`, in bytes.
const FPREGS_BYTES: usize = 512;
const USER_BYTES: u64 = 912;
/// The flags a tracer may set.
const SETTABLE_FLAGS: u64 = 0x0005_4dd5 | 0x100;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

impl Task {
    /// For wait: the stop that no wait has reported yet.
    pub(in crate::kernel) fn take_trace_stop(&self, keep: bool) -> Option<i32> {
        let mut trace = self.trace.trace.lock();
        let stop = trace.stop.as_mut().filter(|stop| stop.unreported)?;
        stop.unreported = keep;
        Some(stop.code)
    }

    /// Works on the stop; `ESRCH` unless it stands in one.
    fn with_stop<T>(&self, f: impl FnOnce(&mut Stop) -> SysResult<T>) -> SysResult<T> {
        let mut trace = self.trace.trace.lock();
        match &mut trace.stop {
            Some(stop) => f(stop),
            None => err!(ESRCH),
        }
    }

    /// Lets it go on.
    fn resume(&self, mode: Mode, signal: i32) -> SysResult<()> {
        if signal != 0 && Signal::new(signal).is_none() {
            return err!(EIO);
        }
        {
            let mut trace = self.trace.trace.lock();
            if trace.stop.is_none() {
                return err!(ESRCH);
            }
            trace.mode = mode;
            trace.command = Some(Command::Resume { signal });
        }
        self.interrupt();
        Ok(())
    }
}

impl CurrentTask {
    /// ptrace(2).
    pub(crate) fn ptrace(
        &mut self,
        request: u64,
        pid: i32,
        addr: u64,
        data: u64,
    ) -> SysResult<u64> {
        match request as u32 {
            libc::PTRACE_TRACEME => return self.trace_me(),
            libc::PTRACE_ATTACH => return self.attach(pid, None),
            libc::PTRACE_SEIZE if addr != 0 => return err!(EIO),
            libc::PTRACE_SEIZE => return self.attach(pid, Some(options(data)?)),
            _ => {}
        }
        let target = self.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
        if target.tracer_tid() != self.tid() {
            return err!(ESRCH);
        }
        match request as u32 {
            libc::PTRACE_KILL => {
                let _ = target.send_signal(SigInfo::kernel(Signal::KILL));
                return Ok(0);
            }
            libc::PTRACE_INTERRUPT => {
                let mut trace = target.trace.trace.lock();
                if !trace.seized {
                    return err!(EIO);
                }
                trace.interrupt = true;
                drop(trace);
                target.interrupt();
                return Ok(0);
            }
            _ => {}
        }
        target.with_stop(|_| Ok(()))?;
        self.stopped_request(&target, request as u32, addr, data)
    }

    fn trace_me(&mut self) -> SysResult<u64> {
        let parent = self.kernel().tasks.process(self.thread_group().ppid());
        let tracer = parent.and_then(|parent| parent.leader()).ok_or(Errno::EPERM)?;
        if !self.task.start_tracing(&tracer, false, Options::empty()) {
            return err!(EPERM);
        }
        self.refresh_slow_entry();
        Ok(0)
    }

    fn attach(&mut self, pid: i32, seize: Option<Options>) -> SysResult<u64> {
        let target = self.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
        if target.pid() == self.pid() || !self.may_ptrace(&target) || target.is_exited() {
            return err!(EPERM);
        }
        if !target.start_tracing(&self.task, seize.is_some(), seize.unwrap_or_default()) {
            return err!(EPERM);
        }
        if seize.is_none() {
            let uid = self.cred_ref().uid;
            target.send_signal(SigInfo::from_user(Signal::STOP, 0, self.pid(), uid))?;
        }
        target.interrupt();
        Ok(0)
    }

    fn stopped_request(
        &mut self,
        target: &Arc<Task>,
        request: u32,
        addr: u64,
        data: u64,
    ) -> SysResult<u64> {
        let signal = data as i32;
        match request {
            libc::PTRACE_CONT => target.resume(Mode::Continue, signal)?,
            libc::PTRACE_SYSCALL => target.resume(Mode::Syscall, signal)?,
            libc::PTRACE_SINGLESTEP => target.resume(Mode::SingleStep, signal)?,
            libc::PTRACE_DETACH => {
                if signal != 0 {
                    Signal::new(signal).ok_or(Errno::EIO)?;
                }
                target.stop_tracing(signal);
            }
            libc::PTRACE_LISTEN => {
                let mut trace = target.trace.trace.lock();
                if !trace.seized || trace.stop.as_ref().is_none_or(|stop| stop.code >> 8 != 128) {
                    return err!(EIO);
                }
                trace.command = Some(Command::Listen);
                drop(trace);
                target.interrupt();
            }
            libc::PTRACE_SETOPTIONS => {
                let options = options(data)?;
                target.trace.trace.lock().options = options;
            }
            libc::PTRACE_GETEVENTMSG => {
                let message = target.trace.trace.lock().message;
                self.mm().write_obj(UserRef::new(data), &message)?;
            }
            libc::PTRACE_PEEKTEXT | libc::PTRACE_PEEKDATA => {
                let memory = target.memory().ok_or(Errno::ESRCH)?;
                let word: u64 = memory.read_obj(UserRef::new(addr)).map_err(|_| Errno::EIO)?;
                self.mm().write_obj(UserRef::new(data), &word)?;
            }
            libc::PTRACE_POKETEXT | libc::PTRACE_POKEDATA => {
                let memory = target.memory().ok_or(Errno::ESRCH)?;
                poke(&memory, UserAddr(addr), &data.to_ne_bytes()).map_err(|_| Errno::EIO)?;
            }
            libc::PTRACE_GETSIGINFO => {
                let info = target.with_stop(|stop| Ok(stop.info))?;
                self.mm().write_obj(UserRef::new(data), &info)?;
            }
            libc::PTRACE_SETSIGINFO => {
                let info = self.mm().read_obj(UserRef::<SigInfo>::new(data))?;
                let mut trace = target.trace.trace.lock();
                let Trace { stop: Some(stop), changed_info, .. } = &mut *trace else {
                    return err!(ESRCH);
                };
                stop.info = info;
                *changed_info = true;
            }
            libc::PTRACE_GETSIGMASK if addr == 8 => {
                self.mm().write_obj(UserRef::new(data), &target.blocked())?;
            }
            libc::PTRACE_SETSIGMASK if addr == 8 => {
                let mask = self.mm().read_obj(UserRef::<SigSet>::new(data))?;
                target.set_blocked_raw(mask);
                target.interrupt();
            }
            libc::PTRACE_GETSIGMASK | libc::PTRACE_SETSIGMASK => return err!(EINVAL),
            PTRACE_GET_RSEQ_CONFIGURATION if self.kernel().has_rseq() => {
                return self.rseq_configuration(target, addr, data);
            }
            libc::PTRACE_GET_SYSCALL_INFO => return self.syscall_info(target, addr, data),
            _ => return self.register_request(target, request, addr, data),
        }
        Ok(0)
    }

    /// The first `size` bytes of `struct ptrace_rseq_configuration`; the length of all.
    fn rseq_configuration(&self, target: &Task, size: u64, at: u64) -> SysResult<u64> {
        let known = target.with_stop(|stop| Ok(stop.rseq))?;
        let mut bytes = [0; 24];
        if let Some(Registration { area, len, signature }) = known {
            bytes[..8].copy_from_slice(&area.to_ne_bytes());
            bytes[8..12].copy_from_slice(&len.to_ne_bytes());
            bytes[12..16].copy_from_slice(&signature.to_ne_bytes());
        }
        let wanted = bytes.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        self.mm().copy_out(UserAddr(at), bytes.get(..wanted).unwrap_or_default())?;
        Ok(bytes.len() as u64)
    }

    fn register_request(
        &mut self,
        target: &Task,
        request: u32,
        addr: u64,
        data: u64,
    ) -> SysResult<u64> {
        let limit = self.mm().user_range().end;
        match request {
            libc::PTRACE_GETREGS => {
                let words = target.with_stop(|stop| Ok(to_words(&stop.registers)))?;
                self.mm().write_obj(UserRef::new(data), &words)?;
            }
            libc::PTRACE_SETREGS => {
                let words = self.mm().read_obj(UserRef::<[u64; 27]>::new(data))?;
                target.with_stop(|stop| set_words(&mut stop.registers, &words, limit))?;
            }
            libc::PTRACE_GETFPREGS => {
                let bytes = target.with_stop(|stop| Ok(stop.xstate.bytes.clone()))?;
                let part = bytes.get(..FPREGS_BYTES).ok_or(Errno::EIO)?;
                self.mm().copy_out(UserAddr(data), part)?;
            }
            libc::PTRACE_SETFPREGS => {
                let mut bytes = [0; FPREGS_BYTES];
                self.mm().copy_in(UserAddr(data), &mut bytes)?;
                target.with_stop(|stop| set_xstate(stop, &bytes))?;
            }
            libc::PTRACE_GETREGSET | libc::PTRACE_SETREGSET => {
                return self.register_set(target, request, addr, data);
            }
            libc::PTRACE_PEEKUSER => {
                let word = self.peek_user(target, addr)?;
                self.mm().write_obj(UserRef::new(data), &word)?;
            }
            libc::PTRACE_POKEUSER => {
                let index = user_index(addr)?;
                if index >= 27 {
                    // Debug registers: only "no breakpoint" can be set.
                    return if data == 0 { Ok(0) } else { err!(EIO) };
                }
                target.with_stop(|stop| {
                    let mut words = to_words(&stop.registers);
                    words[index] = data;
                    set_words(&mut stop.registers, &words, limit)
                })?;
            }
            _ => return err!(EIO),
        }
        Ok(0)
    }

    fn peek_user(&self, target: &Task, addr: u64) -> SysResult<u64> {
        let index = user_index(addr)?;
        target.with_stop(|stop| Ok(to_words(&stop.registers).get(index).copied().unwrap_or(0)))
    }

    fn register_set(
        &mut self,
        target: &Task,
        request: u32,
        kind: u64,
        iovec: u64,
    ) -> SysResult<u64> {
        let at = UserRef::<[u64; 2]>::new(iovec);
        let [base, len] = self.mm().read_obj(at)?;
        let limit = self.mm().user_range().end;
        let current: Vec<u8> = target.with_stop(|stop| match kind {
            NT_PRSTATUS => {
                Ok(to_words(&stop.registers).iter().flat_map(|word| word.to_ne_bytes()).collect())
            }
            NT_PRFPREG => Ok(stop.xstate.bytes.get(..FPREGS_BYTES).unwrap_or_default().to_vec()),
            NT_X86_XSTATE => Ok(xstate_set(&stop.xstate.bytes)),
            _ => err!(EINVAL),
        })?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(current.len());
        if request == libc::PTRACE_GETREGSET {
            self.mm().copy_out(UserAddr(base), current.get(..len).unwrap_or_default())?;
        } else {
            let mut bytes = current;
            let part = bytes.get_mut(..len).ok_or(Errno::EINVAL)?;
            self.mm().copy_in(UserAddr(base), part)?;
            target.with_stop(|stop| match kind {
                NT_PRSTATUS => {
                    let mut words = [0; 27];
                    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                        *word = bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                    }
                    set_words(&mut stop.registers, &words, limit)
                }
                _ => set_xstate(stop, &bytes),
            })?;
        }
        self.mm().write_obj(at, &[base, len as u64])?;
        Ok(0)
    }

    /// `struct ptrace_syscall_info`.
    fn syscall_info(&self, target: &Task, size: u64, at: u64) -> SysResult<u64> {
        let (about, regs) = target.with_stop(|stop| Ok((stop.about, stop.registers)))?;
        let mut bytes: Vec<u8> = Vec::with_capacity(88);
        let (op, rest): (u8, Vec<u8>) = match about {
            About::Other => (0, vec![]),
            About::Entry { number, args } => (1, words(&[number], &args)),
            About::Exit { value } => {
                let mut rest = words(&[value], &[]);
                rest.push(u8::from((value as i64) < 0 && (value as i64) >= -4095));
                (2, rest)
            }
            About::Seccomp { number, args, data } => {
                let mut rest = words(&[number], &args);
                rest.extend(data.to_ne_bytes());
                (3, rest)
            }
        };
        bytes.extend([op, 0, 0, 0]);
        bytes.extend(AUDIT_ARCH_X86_64.to_ne_bytes());
        bytes.extend(words(&[regs.rip, regs.rsp], &[]));
        bytes.extend(rest);
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(bytes.len());
        self.mm().copy_out(UserAddr(at), bytes.get(..len).unwrap_or_default())?;
        Ok(bytes.len() as u64)
    }
}

fn words(first: &[u64], rest: &[u64]) -> Vec<u8> {
    first.iter().chain(rest).flat_map(|word| word.to_ne_bytes()).collect()
}

fn options(data: u64) -> SysResult<Options> {
    Ok(u32::try_from(data).ok().and_then(Options::from_bits).ok_or(Errno::EINVAL)?)
}

/// Which register `addr` names in `struct user`.
fn user_index(addr: u64) -> SysResult<usize> {
    if !addr.is_multiple_of(8) || addr >= USER_BYTES {
        return err!(EIO);
    }
    Ok((addr / 8) as usize)
}

/// In the order of `struct user_regs_struct`.
fn to_words(r: &Registers) -> [u64; 27] {
    [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.orig_rax, r.rip, 0x33, r.eflags, r.rsp, 0x2b, r.fs_base, r.gs_base, 0, 0,
        0, 0,
    ]
}

/// Segment selectors cannot be changed; bases must lie in user space.
fn set_words(regs: &mut Registers, words: &[u64; 27], limit: u64) -> SysResult<()> {
    let [
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
        orig_rax,
        rip,
        _,
        eflags,
        rsp,
        _,
        fs_base,
        gs_base,
        ..,
    ] = *words;
    if fs_base >= limit || gs_base >= limit {
        return err!(EIO);
    }
    *regs = Registers {
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
        orig_rax,
        rip,
        eflags: regs.eflags & !SETTABLE_FLAGS | eflags & SETTABLE_FLAGS & !0x100,
        rsp,
        fs_base,
        gs_base,
        ..*regs
    };
    Ok(())
}

/// Where the format of extended state is told (`sw_reserved` of `struct _fpstate_64`).
const SW_BYTES: std::ops::Range<usize> = 464..512;

/// Extended state as a register set: without the mark that ends it in a signal frame, and with the components that there
/// are (XCR0) where a frame says more of its format (`copy_xstate_to_uabi_buf`).
fn xstate_set(frame: &[u8]) -> Vec<u8> {
    const FRAME_FEATURES: std::ops::Range<usize> = 472..480;
    let mut bytes = frame.get(..frame.len().saturating_sub(4)).unwrap_or_default().to_vec();
    if let Some(features) = frame.get(FRAME_FEATURES)
        && let Some(format) = bytes.get_mut(SW_BYTES)
    {
        format.fill(0);
        format.iter_mut().zip(features).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// Takes over what the tracer gave, but not the marks of the format.
fn set_xstate(stop: &mut Stop, bytes: &[u8]) -> SysResult<()> {
    for (at, (to, from)) in stop.xstate.bytes.iter_mut().zip(bytes).enumerate() {
        if !SW_BYTES.contains(&at) {
            *to = *from;
        }
    }
    if bytes.len() == FPREGS_BYTES
        && let Some(in_use) = stop.xstate.bytes.get_mut(512)
    {
        *in_use |= 3;
    }
    Ok(())
}
