//! signalfd(2) (`fs/signalfd.c`).
//!
//! A signalfd has no signals of its own: it reads those of whoever calls.

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering},
};

use linux_abi::{SigInfo, SigSet, Signal, event::SignalfdSiginfo};
use zerocopy::IntoBytes;

use crate::{
    SysResult, err,
    kernel::served,
    vfs::{FileDescription, FileOps, IoDst},
    wait::{EventMask, PollTable},
};

const RECORD: usize = size_of::<SignalfdSiginfo>();

/// The signals it takes.
#[derive(Debug)]
pub struct SignalFd(AtomicU64);

impl SignalFd {
    /// SIGKILL and SIGSTOP are left out.
    pub fn new(wanted: SigSet) -> Self {
        let new = Self(AtomicU64::new(0));
        new.set(wanted);
        new
    }

    /// Takes others from now on.
    pub fn set(&self, wanted: SigSet) {
        self.0.store(wanted.minus(SigSet::UNBLOCKABLE).0, Ordering::Relaxed);
    }

    fn wanted(&self) -> SigSet {
        SigSet(self.0.load(Ordering::Relaxed))
    }
}

/// The record that shows a signal (`signalfd_copyinfo`). All that the kind of signal does not have is 0.
fn record(signal: Signal, info: &SigInfo) -> SignalfdSiginfo {
    let mut out = <SignalfdSiginfo as zerocopy::FromZeros>::new_zeroed();
    out.signo = signal.number() as u32;
    out.errno = info.errno;
    out.code = info.code;
    let from_fault =
        matches!(signal, Signal::SEGV | Signal::BUS | Signal::ILL | Signal::FPE | Signal::TRAP);
    match info.code {
        libc::SI_TIMER => {
            out.tid = info.timer_id() as u32;
            out.overrun = info.overrun() as u32;
            (out.ptr, out.int) = (info.value(), info.value() as i32);
        }
        code if code > 0 && signal == Signal::CHLD => {
            out.pid = info.pid() as u32;
            out.uid = info.uid();
            out.status = info.status();
            out.utime = info.utime() as u64;
            out.stime = info.stime() as u64;
        }
        code if code > 0 && code < libc::SI_KERNEL && signal == Signal::SYS => {
            out.call_addr = info.call_addr();
            out.syscall = info.syscall();
            out.arch = info.arch();
        }
        code if code > 0 && code < libc::SI_KERNEL && from_fault => out.addr = info.addr(),
        code if code > 0 && code < libc::SI_KERNEL => {
            out.band = info.band() as u32;
            out.fd = info.fd();
        }
        code => {
            out.pid = info.pid() as u32;
            out.uid = info.uid();
            if code < 0 && code != libc::SI_TKILL {
                (out.ptr, out.int) = (info.value(), info.value() as i32);
            }
        }
    }
    out
}

impl FileOps for SignalFd {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if dst.len() < RECORD {
            return err!(EINVAL);
        }
        let Some(task) = served() else { return err!(EAGAIN) };
        let mut done = 0;
        while dst.len() >= RECORD {
            let Some((signal, info)) = task.take_signal(self.wanted()) else { break };
            match dst.put(record(signal, &info).as_bytes()) {
                Ok(RECORD) => done += RECORD,
                _ if done > 0 => break,
                _ => return err!(EFAULT),
            }
        }
        if done == 0 { err!(EAGAIN) } else { Ok(done) }
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        let Some(task) = served() else { return EventMask::empty() };
        table.wait_on(&task.thread_group().signal_queue);
        let (own, shared) = task.pending_signals();
        let ready = !own.union(shared).intersection(self.wanted()).is_empty();
        if ready { EventMask::IN } else { EventMask::empty() }
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        format!("sigmask:\t{:016x}\n", self.wanted().0)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
