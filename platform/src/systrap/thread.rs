//! A guest thread on the host: it is either in guest code, or waits in one of two
//! notifications.
//!
//! ```text
//!            answer                       receive
//!  Call  ─────────────▶  guest code  ─────────────▶  Call    the guest's system call; its
//!   │                        ▲                               registers are in the kernel
//!   │ kick, answer, receive  │ answer
//!   └──────────────────▶  Frame  ◀── receive ── handler      all registers are in the slot
//! ```

use std::{os::fd::AsFd, sync::Arc};

use linux_abi::Errno;

use super::frame::Frame;
use crate::{
    PlatformError,
    stub::{
        self, Listener, Slot, StubProcess, Waiter,
        layout::*,
        sys::{self, Notification},
    },
};

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// Bytes of `syscall` and of `int 0x80`.
const CALL_LEN: u64 = 2;

/// A system call that waits for its result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    id: u64,
    pub(super) number: u64,
    /// Behind the instruction.
    ip: u64,
    pub(super) args: [u64; 6],
    pub(super) compat: bool,
}

/// A handler that waits for leave to return into its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    id: u64,
    pub(super) signal: i32,
    pub(super) frame: Frame,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Call(Call),
    Stop(Stop),
    /// In guest code, or lost there.
    Running,
}

/// See the module. Used by one sentry thread at a time.
#[derive(Debug)]
pub(super) struct GuestThread {
    listener: Listener,
    pub(super) slot: Slot,
    /// Its thread id on the host.
    pub(super) tid: i32,
    pub(super) state: State,
    waiter: Arc<Waiter>,
}

/// What the kernel would take for a request to restart a call (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK`) when a signal is pending at its end.
fn is_restart(value: u64) -> bool {
    (-516..=-512).contains(&(value as i64))
}

impl GuestThread {
    /// A new thread of the process, waiting in its first frame.
    pub(super) fn new(process: &StubProcess) -> Result<Self, PlatformError> {
        let born = process.new_thread()?;
        let (listener, first) = process.claim(born.born)?;
        let waiter = Arc::new(Waiter::default());
        process.add_waiter(waiter.clone());
        let tid = first.pid as i32;
        let state = State::Running;
        let mut thread = Self { listener, slot: born.slot, tid, state, waiter };
        thread.state = thread.decode(process, &first)?;
        match thread.state {
            State::Stop(_) => Ok(thread),
            _ => Err(process.corrupted("a new thread did not enter its handler")),
        }
    }

    fn decode(&self, process: &StubProcess, from: &Notification) -> Result<State, PlatformError> {
        let native = from.arch == AUDIT_ARCH_X86_64;
        if native && from.number as u32 == DOORBELL && from.ip == stub::after_doorbell() {
            let [signal, siginfo, ucontext, fs_base, gs_base, _] = from.args;
            let frame = Frame::new(self.slot, siginfo, ucontext)
                .ok_or_else(|| process.corrupted("a signal frame outside its stack"))?;
            let signal = signal as i32;
            return Ok(State::Stop(Stop { id: from.id, signal, frame, fs_base, gs_base }));
        }
        Ok(State::Call(Call {
            id: from.id,
            number: i64::from(from.number) as u64,
            ip: from.ip,
            args: from.args,
            compat: !native,
        }))
    }

    /// Waits until the thread stops, and notes how.
    fn receive(&mut self, process: &StubProcess) -> Result<(), PlatformError> {
        self.state = State::Running;
        let notification = loop {
            self.waiter.enter();
            if process.is_dead() {
                self.waiter.leave();
                return Err(process.death());
            }
            let received = sys::notification_receive(self.listener.as_fd());
            self.waiter.leave();
            match received {
                Ok(notification) => break notification,
                Err(Errno::EINTR) => {}
                // The call went away before we saw it: a signal, or death.
                Err(Errno::ENOENT) => {
                    if process.has_ended() || sys::is_hung_up(self.listener.as_fd()) {
                        process.kill();
                        return Err(process.death());
                    }
                }
                Err(errno) => return Err(PlatformError::Host { what: "a guest's call", errno }),
            }
        };
        self.state = self.decode(process, &notification)?;
        Ok(())
    }

    /// True when the answer was taken; false when the call had gone away.
    fn send(&self, id: u64, value: u64) -> Result<bool, PlatformError> {
        loop {
            match sys::notification_send(self.listener.as_fd(), id, value) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT | Errno::EINPROGRESS) => return Ok(false),
                Err(errno) => return Err(PlatformError::Host { what: "a guest's result", errno }),
            }
        }
    }

    /// Gives a call its result, and waits for the next stop.
    pub(super) fn answer_call(
        &mut self,
        process: &StubProcess,
        call: Call,
        value: u64,
    ) -> Result<(), PlatformError> {
        if is_restart(value) {
            self.fetch(process, call)?;
            let State::Stop(stop) = self.state else {
                return Err(process.corrupted("a thread is not where it was"));
            };
            stop.frame.finish_call(process.control(), call.ip, value);
            return self.answer_stop(process, stop, (stop.fs_base, stop.gs_base));
        }
        let mut id = call.id;
        loop {
            let taken = self.send(id, value)?;
            self.receive(process)?;
            match self.state {
                State::Stop(stop) if !taken => {
                    self.finish_interrupted(process, call, stop, value);
                    return Ok(());
                }
                // The call had gone away before its result came, and nothing ran in
                // between: the host made it again, after a stop or a freeze.
                State::Call(again) if !taken => id = again.id,
                _ => return Ok(()),
            }
        }
    }

    /// On hosts without `WAIT_KILLABLE_RECV` a kick takes the call away while we work on
    /// it, and the frame shows it about to be made again. It must not be.
    fn finish_interrupted(&self, process: &StubProcess, call: Call, stop: Stop, value: u64) {
        if stop.frame.rip(process.control()) == call.ip.wrapping_sub(CALL_LEN) {
            stop.frame.finish_call(process.control(), call.ip, value);
        }
    }

    /// Lets the handler return into its frame, and waits for the next stop.
    pub(super) fn answer_stop(
        &mut self,
        process: &StubProcess,
        stop: Stop,
        (fs_base, gs_base): (u64, u64),
    ) -> Result<(), PlatformError> {
        let slot = self.slot.offset();
        // A base that is not canonical would kill the process.
        let user = |base: u64| if base >> 47 == 0 { base } else { 0 };
        process.control().write_u64(slot + S_FS_BASE, user(fs_base));
        process.control().write_u64(slot + S_GS_BASE, user(gs_base));
        self.send(stop.id, 0)?;
        self.receive(process)
    }

    /// Makes the kernel write all registers of a thread in a system call to its slot: a
    /// signal waits when the call returns. The result is put in later.
    pub(super) fn fetch(&mut self, process: &StubProcess, call: Call) -> Result<(), PlatformError> {
        if sys::tgkill(process.pid(), self.tid, KICK_SIGNAL).is_err() {
            return Err(process.death());
        }
        self.send(call.id, 0)?;
        self.receive(process)?;
        match self.state {
            State::Stop(stop) => {
                self.finish_interrupted(process, call, stop, 0);
                Ok(())
            }
            _ => Err(process.corrupted("a guest thread blocks our signal")),
        }
    }
}
