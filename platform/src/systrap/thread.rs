//! A guest thread on the host: it is in guest code, or waits in one of two notifications, or
//! for a reply in its slot.
//!
//! ```text
//!            answer                       receive
//!  Call  ─────────────▶  guest code  ─────────────▶  Call    the guest's system call; its
//!   │                    ▲  ▲    │                           registers are in the kernel
//!   │ kick, answer,      │  │    └── look, receive ─▶ Post   a call from a rewritten site;
//!   │ receive            │  └──────── reply ───────────┘     its registers are in the slot
//!   └──────────────▶  Frame  ◀── receive ── handler          all registers are in the slot
//! ```

use std::{
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
};

use linux_abi::Errno;

use super::{
    attention::{Attention, Load, Seen},
    call::{CallSlot, Reply},
    frame::Frame,
};
use crate::{
    Answers, PlatformError, Registers, XState, host,
    stub::{
        self, CallPlace, Listener, Slot, StubProcess, Waiter,
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
    pub(super) ip: u64,
    pub(super) args: [u64; 6],
    pub(super) compat: bool,
}

/// A call from a rewritten site, which waits for the reply in its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    /// The notification of its bell, if it waits there.
    id: Option<u64>,
    pub(super) number: u64,
    pub(super) args: [u64; 6],
}

/// A handler that waits for leave to return into its frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    id: u64,
    pub(super) signal: i32,
    pub(super) frame: Frame,
    pub(super) fs_base: u64,
    pub(super) gs_base: u64,
    /// The signal hit code of the stub, on the way of a call.
    pub(super) in_stub: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Call(Call),
    Post(Post),
    Stop(Stop),
    /// In guest code, or lost there.
    Running,
}

/// The reply that a thread may not have read yet.
#[derive(Debug)]
enum Unread {
    Nothing,
    Result(u64),
    Load(Box<(Registers, Option<XState>)>),
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
    attention: Attention,
    /// Both sides of the listener wake each other on one processor.
    same_processor: bool,
    unread: Unread,
    /// The thread rings the bell for a call that has its reply already.
    late_bell: bool,
    /// When the call that is being served came, by the time-stamp counter.
    called: u64,
    /// How often the sentry thread had slept or woken others by then.
    switches: u32,
}

/// What the kernel would take for a request to restart a call (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK`) when a signal is pending at its end.
fn is_restart(value: u64) -> bool {
    (-516..=-512).contains(&(value as i64))
}

impl GuestThread {
    /// A new thread of the process, waiting in its first frame.
    pub(super) fn new(process: &StubProcess, load: Arc<Load>) -> Result<Self, PlatformError> {
        let born = process.new_thread()?;
        let (listener, first) = process.claim(born.born)?;
        let waiter = Arc::new(Waiter::default());
        process.add_waiter(waiter.clone());
        let mut thread = Self {
            listener,
            slot: born.slot,
            tid: first.pid as i32,
            state: State::Running,
            waiter,
            attention: Attention::new(load),
            same_processor: true,
            unread: Unread::Nothing,
            late_bell: false,
            called: 0,
            switches: 0,
        };
        thread.call_slot(process).prepare();
        thread.state = thread.decode(process, &first)?;
        match thread.state {
            State::Stop(_) => Ok(thread),
            _ => Err(process.corrupted("a new thread did not enter its handler")),
        }
    }

    pub(super) fn call_slot<'a>(&self, process: &'a StubProcess) -> CallSlot<'a> {
        CallSlot { control: process.control(), slot: self.slot }
    }

    /// For the count of guest threads in guest code.
    pub(super) fn load(&self) -> &Load {
        self.attention.load()
    }

    /// Another guest thread takes its place.
    pub(super) fn start_over(&mut self) {
        self.attention.start_over();
    }

    fn decode(
        &mut self,
        process: &StubProcess,
        from: &Notification,
    ) -> Result<State, PlatformError> {
        let native = from.arch == AUDIT_ARCH_X86_64;
        let bell = native && from.number as u32 == DOORBELL;
        if bell && from.ip == stub::after_call() {
            self.attention.rung();
            return Ok(State::Post(self.read_post(process, Some(from.id))));
        }
        self.attention.trapped();
        if bell && from.ip == stub::after_doorbell() {
            let [signal, siginfo, ucontext, fs_base, gs_base, _] = from.args;
            let frame = Frame::new(self.slot, siginfo, ucontext)
                .ok_or_else(|| process.corrupted("a signal frame outside its stack"))?;
            let mut stop = Stop {
                id: from.id,
                signal: signal as i32,
                frame,
                fs_base,
                gs_base,
                in_stub: false,
            };
            self.call_slot(process).clear_handler();
            self.settle(process, &mut stop)?;
            return Ok(State::Stop(stop));
        }
        Ok(State::Call(Call {
            id: from.id,
            number: i64::from(from.number) as u64,
            ip: from.ip,
            args: from.args,
            compat: !native,
        }))
    }

    fn read_post(&mut self, process: &StubProcess, id: Option<u64>) -> Post {
        self.called = host::cycles();
        self.switches = host::switches();
        let (number, args) = self.call_slot(process).arguments();
        Post { id, number, args }
    }

    /// When the signal hit the stub on the way of a call: makes the frame show that the call is
    /// about to be made, or complete.
    fn settle(&mut self, process: &StubProcess, stop: &mut Stop) -> Result<(), PlatformError> {
        let (control, call) = (process.control(), self.call_slot(process));
        let unread = std::mem::replace(&mut self.unread, Unread::Nothing);
        let rip = stop.frame.rip(control);
        let in_clock = || {
            (HOST_VDSO..TEXT + 0x1000_0000).contains(&rip)
                && call.is_own_stack(stop.frame.rsp(control))
        };
        let place = match stub::call_place(rip) {
            Some(place) => place,
            None if in_clock() => CallPlace::InClock,
            None => return Ok(()),
        };
        stop.in_stub = true;
        match place {
            CallPlace::Entered => stop.frame.set_rip(control, stop.frame.rcx(control)),
            CallPlace::Answered => stop.frame.set_rip(control, call.back().wrapping_add(CALL_LEN)),
            CallPlace::Left => stop.frame.set_rip(control, stop.frame.rcx(control)),
            CallPlace::Loaded => stop.frame.set_rip(control, call.rip()),
            CallPlace::Noted | CallPlace::InClock => {
                if place == CallPlace::InClock {
                    stop.frame.set_kept(control, call.kept());
                }
                match (call.state(), unread) {
                    (CALL_RESULT, Unread::Result(value)) => {
                        let behind = call.back().wrapping_add(CALL_LEN);
                        stop.frame.finish_call(control, behind, value);
                    }
                    (CALL_LOAD | CALL_LOAD_EXTENDED, Unread::Load(all)) => {
                        let (regs, xstate) = *all;
                        stop.frame.write(control, self.slot, &regs);
                        (stop.fs_base, stop.gs_base) = (regs.fs_base, self.slot.address());
                        if let Some(xstate) = xstate {
                            stop.frame
                                .write_xstate(control, self.slot, &xstate)
                                .ok_or_else(|| process.corrupted("a frame without its state"))?;
                        }
                    }
                    _ => stop.frame.finish_call(control, call.back(), call.number()),
                }
                call.set_state(CALL_NONE);
            }
        }
        Ok(())
    }

    /// Waits until the thread stops, and notes how. `look`: it was said to be
    /// looked after.
    fn receive(&mut self, process: &StubProcess, look: bool) -> Result<(), PlatformError> {
        self.state = State::Running;
        // A thread that rings for a call that has its reply has to be woken first.
        let mut look_later = look && self.late_bell;
        if look && !look_later && self.look(process) == Seen::Found {
            return Ok(());
        }
        let notification = loop {
            self.waiter.enter();
            if process.is_dead() {
                self.waiter.leave();
                return Err(process.death());
            }
            let received = sys::notification_receive(self.listener.as_fd());
            self.waiter.leave();
            match received {
                Ok(bell) if self.late_bell && bell.ip == stub::after_call() => {
                    self.late_bell = false;
                    self.send(bell.id, 0)?;
                    if std::mem::take(&mut look_later) {
                        self.attention.woke();
                        if self.look(process) == Seen::Found {
                            return Ok(());
                        }
                    }
                }
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
        if look_later {
            self.look_away(process);
        }
        // The reply brings the guest thread here.
        self.wake_on_same_processor(true);
        self.state = self.decode(process, &notification)?;
        Ok(())
    }

    /// Looks for a call in the slot.
    fn look(&mut self, process: &StubProcess) -> Seen {
        let call = self.call_slot(process);
        let mut polls = 0_u32;
        let listener = self.listener.as_fd();
        let seen = self.attention.look(|| {
            if call.state() == CALL_POSTED {
                return true;
            }
            polls = polls.wrapping_add(1);
            call.is_in_handler() || polls.is_multiple_of(128) && sys::poll(listener, 0) != 0
        });
        if seen == Seen::Found && call.state() == CALL_POSTED {
            self.state = State::Post(self.read_post(process, None));
            return Seen::Found;
        }
        call.set_attentive(false);
        // It may have been posted at the last moment.
        if call.state() == CALL_POSTED {
            self.state = State::Post(self.read_post(process, None));
            return Seen::Found;
        }
        self.look_away(process);
        // Where to wake: here, as the guest thread's processor may be a busy one, unless this is.
        self.wake_on_same_processor(seen == Seen::Crowded);
        Seen::Nothing
    }

    /// Nobody looks, so the guest thread may compute wherever there is room.
    fn look_away(&mut self, process: &StubProcess) {
        self.call_slot(process).set_attentive(false);
        self.attention.keep_apart(self.tid, false);
    }

    fn wake_on_same_processor(&mut self, same: bool) {
        if self.same_processor != same {
            self.same_processor = same;
            sys::notification_sync_wake_up(self.listener.as_fd(), same);
        }
    }

    /// Replies to a call from a rewritten site, and waits for the next stop.
    fn reply(
        &mut self,
        process: &StubProcess,
        post: Post,
        reply: Reply,
    ) -> Result<(), PlatformError> {
        let cycles = host::cycles().saturating_sub(self.called);
        self.attention.served(self.tid, cycles, self.switches != host::switches());
        let look = self.attention.will_look();
        self.attention.keep_apart(self.tid, look);
        let call = self.call_slot(process);
        if look || post.id.is_none() {
            call.set_attentive(look);
        }
        self.late_bell = false;
        match post.id {
            Some(id) => {
                self.wake_on_same_processor(!look);
                call.reply(reply);
                self.send(id, 0)?;
            }
            None => self.late_bell = call.reply(reply),
        }
        self.receive(process, look)
    }

    /// Gives a call its result.
    pub(super) fn answer_post(
        &mut self,
        process: &StubProcess,
        post: Post,
        value: u64,
    ) -> Result<(), PlatformError> {
        self.call_slot(process).set_result(value);
        self.unread = Unread::Result(value);
        self.reply(process, post, Reply::Result)
    }

    /// Makes the thread go on with these registers.
    pub(super) fn load_registers(
        &mut self,
        process: &StubProcess,
        post: Post,
        regs: &Registers,
        xstate: Option<XState>,
    ) -> Result<(), PlatformError> {
        let call = self.call_slot(process);
        call.write_registers(regs);
        let reply = match &xstate {
            Some(xstate) => {
                process.control().write_bytes(call.xstate(), &xstate.bytes);
                Reply::LoadExtended
            }
            None => Reply::Load,
        };
        self.unread = Unread::Load(Box::new((*regs, xstate)));
        self.reply(process, post, reply)
    }

    /// Makes the thread save its extended state to the slot. When it does not come back
    /// to its call, it is in a frame.
    pub(super) fn save_extended(
        &mut self,
        process: &StubProcess,
        post: Post,
    ) -> Result<(), PlatformError> {
        self.reply(process, post, Reply::Save)
    }

    /// Makes the thread enter its handler.
    pub(super) fn make_frame(
        &mut self,
        process: &StubProcess,
        post: Post,
    ) -> Result<(), PlatformError> {
        self.reply(process, post, Reply::Frame)?;
        match self.state {
            State::Stop(_) => Ok(()),
            _ => Err(process.corrupted("a thread did not enter its handler")),
        }
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
        self.attention.keep_apart(self.tid, false);
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
            self.receive(process, false)?;
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
        self.attention.keep_apart(self.tid, false);
        let slot = self.slot.offset();
        // A base that is not canonical would kill the process.
        let user = |base: u64| if base >> 47 == 0 { base } else { 0 };
        process.control().write_u64(slot + S_FS_BASE, user(fs_base));
        process.control().write_u64(slot + S_GS_BASE, user(gs_base));
        self.send(stop.id, 0)?;
        self.receive(process, false)
    }

    /// Makes the kernel write all registers of a thread in a system call to its slot: a
    /// signal waits when the call returns. The result is put in later.
    pub(super) fn fetch(&mut self, process: &StubProcess, call: Call) -> Result<(), PlatformError> {
        if sys::tgkill(process.pid(), self.tid, KICK_SIGNAL).is_err() {
            return Err(process.death());
        }
        self.send(call.id, 0)?;
        self.receive(process, false)?;
        match self.state {
            State::Stop(stop) => {
                self.finish_interrupted(process, call, stop, 0);
                Ok(())
            }
            _ => Err(process.corrupted("a guest thread blocks our signal")),
        }
    }

    /// What the sandbox may know of itself, for the stub to answer; `None`: nothing.
    pub(super) fn set_answers(&self, process: &StubProcess, answers: Option<&Answers>) {
        let (control, at) = (process.control(), self.slot.answers_offset());
        // Its own thread is not in guest code, so nobody reads between the two.
        control.word(at).store(0, Ordering::Relaxed);
        if let Some(answers) = answers {
            for (word, at) in answers.ids.iter().zip((at + 4..).step_by(4)) {
                control.word(at).store(*word, Ordering::Relaxed);
            }
            let which = if answers.yields { ANSWERS_ALL } else { ANSWERS_BUT_YIELD };
            control.word(at).store(which, Ordering::Release);
        }
    }
}
