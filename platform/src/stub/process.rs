//! One stub process, and how its threads come to be.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{
    command::Command,
    control::{CommandPages, Control, Slot},
    kick::Kicker,
    layout::*,
    registry::{Listener, Registry},
    sys::{self, Notification},
    zygote::PATIENCE,
};
use crate::{
    PlatformError,
    lock_order::{StubThreads, StubWaiters},
};

/// What the reaper knows of a stub process.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    dead: AtomicBool,
    /// Somebody who needed the process found it gone. Its end can take a while, or wait for a tracer.
    lost: AtomicBool,
    waiters: Mutex<StubWaiters, Vec<Arc<Waiter>>>,
    kickers: Mutex<StubWaiters, Vec<Weak<Kicker>>>,
    /// Slots and pages to give back when it is gone.
    holdings: Mutex<StubThreads, (CommandPages, Vec<Slot>)>,
}

/// A sentry thread that waits for a guest thread in a host call which may not notice
/// that the stub process died.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    /// The sentry thread's id while it waits, else 0.
    thread: AtomicI32,
}

impl Waiter {
    /// The calling thread is about to wait. Check for death after this, before waiting.
    pub(crate) fn enter(&self) {
        self.thread.store(sys::thread_id(), Ordering::SeqCst);
    }

    /// The calling thread waits no longer.
    pub(crate) fn leave(&self) {
        self.thread.store(0, Ordering::SeqCst);
    }
}

impl Shared {
    pub(super) fn new(pid: i32, pidfd: OwnedFd, pages: CommandPages, slot: Slot) -> Self {
        Self {
            pid,
            pidfd,
            dead: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            waiters: Mutex::default(),
            kickers: Mutex::default(),
            holdings: Mutex::new((pages, vec![slot])),
        }
    }

    /// For the reaper: the process has ended. Gets all who wait for it out of their
    /// host calls, and gives back what it used.
    pub(super) fn ended(&self, control: &Control) {
        self.dead.store(true, Ordering::SeqCst);
        let own = rustix::process::getpid().as_raw_nonzero().get();
        // A waiter may have checked for death just before, and enter its host call just
        // after the signal: so this is repeated until it is seen to have left.
        loop {
            let mut left = true;
            for waiter in self.waiters.lock().iter() {
                let thread = waiter.thread.load(Ordering::SeqCst);
                if thread != 0 {
                    left = sys::tgkill(own, thread, sys::INTERRUPT_SIGNAL).is_err() && left;
                }
            }
            if left {
                break;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let (pages, slots) = {
            let mut holdings = self.holdings.lock();
            (holdings.0, std::mem::take(&mut holdings.1))
        };
        control.give_back(Some(pages), &slots);
    }

    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// For the reaper: true while some context was kicked and is not out yet. One that
    /// will not come out is the guest's doing, and the end of its process.
    pub(super) fn look(&self) -> bool {
        let kickers: Vec<_> = self.kickers.lock().iter().filter_map(Weak::upgrade).collect();
        let looks: Vec<bool> = kickers.iter().filter_map(|kicker| kicker.look(self.pid)).collect();
        if looks.contains(&true) {
            tracing::warn!("stub process {} resists interruption; killed", self.pid);
            self.kill();
        }
        !looks.is_empty()
    }
}

/// A stub process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct StubProcess {
    shared: Arc<Shared>,
    control: Arc<Control>,
    registry: Arc<Registry>,
    pages: CommandPages,
    /// The slot it was born with.
    first: Slot,
    births: Mutex<StubThreads, Births>,
}

#[derive(Debug)]
struct Births {
    /// Guest threads asked for so far.
    asked: u32,
    /// The slot of the one that no one has taken yet.
    pending: Option<Slot>,
}

/// A guest thread that has run no guest code yet.
#[derive(Debug)]
pub(crate) struct NewThread {
    pub(crate) slot: Slot,
    /// What it says of itself, at [`S_BORN`]: descriptor plus one, or thread id.
    pub(crate) born: i32,
}

impl StubProcess {
    /// Takes charge of a process that is being born, with its first guest thread.
    pub(super) fn new(
        shared: Arc<Shared>,
        control: Arc<Control>,
        registry: Arc<Registry>,
        pages: CommandPages,
        first: Slot,
    ) -> Self {
        let births = Mutex::new(Births { asked: 1, pending: Some(first) });
        Self { shared, control, registry, pages, first, births }
    }

    /// Writes the first request into command pages, before the process exists.
    pub(super) fn prepare(control: &Control, pages: CommandPages, slot: Slot) {
        Self::write_request(control, pages, slot);
        control.word(pages.offset() + M_SEQ).store(1, Ordering::Release);
    }

    fn write_request(control: &Control, pages: CommandPages, slot: Slot) {
        let at = pages.offset();
        control.write_u64(at + M_SLOT, slot.address());
        control.write_u64(at + M_SLOT_OFFSET, slot.offset());
        // struct stack_t: ss_sp, ss_flags, ss_size.
        control.write_u64(at + M_ALTSTACK, slot.address() + SLOT_HEADER);
        control.write_u64(at + M_ALTSTACK + 8, 0);
        control.write_u64(at + M_ALTSTACK + 16, SLOT_SIZE - SLOT_HEADER);
    }

    pub(crate) fn pid(&self) -> i32 {
        self.shared.pid
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    /// Offset in the control file of a word of the command page.
    pub(crate) fn command_word(&self, word: u64) -> u64 {
        self.pages.offset() + word
    }

    /// Lays out what the mapper is to do; at most [`COMMANDS_MAX`].
    pub(crate) fn write_commands(&self, batch: &[Command]) {
        let page = self.pages.offset() + COMMAND_SIZE / 2;
        let places = (page..).step_by(COMMAND_LEN as usize).take(COMMANDS_MAX);
        for (command, at) in batch.iter().zip(places) {
            for (word, at) in command.iter().zip((at..).step_by(8)) {
                self.control.write_u64(at, *word);
            }
        }
    }

    /// True once the process has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.is_dead()
    }

    /// True when the process has ended, even if the reaper has not seen it yet, or when some thread of it was found to
    /// be gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_dead()
            || self.shared.lost.load(Ordering::SeqCst)
            || sys::poll(self.shared.pidfd.as_fd(), 0) != 0
    }

    /// Ends the process now.
    pub(crate) fn kill(&self) {
        self.shared.kill();
    }

    /// Ends the process because the guest tampered with what is ours.
    pub(crate) fn corrupted(&self, what: &str) -> PlatformError {
        self.kill();
        self.shared.lost.store(true, Ordering::SeqCst);
        PlatformError::StubDied(format!("process {}: {what}", self.pid()))
    }

    /// What to say when the process is gone.
    pub(crate) fn death(&self) -> PlatformError {
        self.shared.lost.store(true, Ordering::SeqCst);
        PlatformError::StubDied(format!("process {} was killed", self.pid()))
    }

    /// Makes the reaper interrupt this waiter when the process ends.
    pub(crate) fn add_waiter(&self, waiter: Arc<Waiter>) {
        self.shared.waiters.lock().push(waiter);
    }

    /// Makes the reaper see to it that a kicked context comes out of guest code.
    pub(crate) fn add_kicker(&self, kicker: &Arc<Kicker>) {
        let mut kickers = self.shared.kickers.lock();
        kickers.retain(|kicker| kicker.strong_count() > 0);
        kickers.push(Arc::downgrade(kicker));
    }

    /// A guest thread which has run no guest code yet: the spare one, or a new one.
    pub(crate) fn new_thread(&self) -> Result<NewThread, PlatformError> {
        let mut births = self.births.lock();
        if self.is_dead() {
            return Err(self.death());
        }
        if births.pending.is_none() {
            self.ask_for_thread(&mut births)?;
        }
        let Some(slot) = births.pending else {
            return Err(PlatformError::Host { what: "a guest thread", errno: Errno::EAGAIN });
        };
        let born = self.wait_for_word(slot.offset() + S_BORN, births.asked);
        births.pending = None;
        let born = born?;
        // Who makes a second thread will make a third: have it ready.
        if births.asked > 1 {
            let _ = self.ask_for_thread(&mut births);
        }
        Ok(NewThread { slot, born })
    }

    fn ask_for_thread(&self, births: &mut Births) -> Result<(), PlatformError> {
        let none = PlatformError::Host { what: "a slot for a guest thread", errno: Errno::EAGAIN };
        let slot = self.control.take_slot().ok_or(none)?;
        self.shared.holdings.lock_nested().1.push(slot);
        Self::write_request(&self.control, self.pages, slot);
        births.asked = births.asked.wrapping_add(1);
        births.pending = Some(slot);
        sys::futex_post_shared(self.control.word(self.pages.offset() + M_SEQ), births.asked);
        Ok(())
    }

    /// True when it never had more than one guest thread, nor asked for another.
    pub(crate) fn is_single(&self) -> bool {
        self.births.lock().asked == 1
    }

    /// Forgets what a guest left in the slot of a thread that is in no handler.
    pub(crate) fn wipe(&self, slot: Slot) {
        self.control.wipe(slot);
    }

    /// Claims the mapper's listener; its first call comes with it.
    pub(crate) fn mapper(&self) -> Result<(Listener, Notification), PlatformError> {
        let word = self.wait_for_word(self.first.offset() + S_MAPPER, 0)?;
        self.claim(word)
    }

    /// With a tracer: the thread id of the helper. To be asked before guest code runs,
    /// which could write what it likes there.
    pub(crate) fn helper(&self) -> Result<i32, PlatformError> {
        self.wait_for_word(self.first.offset() + S_MAPPER, 0)
    }

    /// Claims the listener which a thread said it has (descriptor plus one).
    pub(crate) fn claim(&self, word: i32) -> Result<(Listener, Notification), PlatformError> {
        self.registry.claim(word.wrapping_sub(1), self.pid()).map_err(|errno| {
            if self.has_ended() {
                self.death()
            } else {
                self.corrupted(&format!("a listener is not what it should be: {errno}"))
            }
        })
    }

    /// Waits until a new thread writes the word. `asked`: the request that may fail.
    fn wait_for_word(&self, offset: u64, asked: u32) -> Result<i32, PlatformError> {
        let refused = |what, word: i32| PlatformError::Host {
            what,
            errno: Errno::from_raw(word.checked_neg().unwrap_or(0)),
        };
        let deadline = Instant::now() + PATIENCE;
        let mut rounds = 0u32;
        loop {
            let word = self.control.word(offset).load(Ordering::Acquire) as i32;
            match word {
                0 => {}
                1.. => return Ok(word),
                ..0 => return Err(refused("a seccomp listener", word)),
            }
            rounds = rounds.saturating_add(1);
            if rounds < 64 {
                // It takes some 30 microseconds.
                std::thread::yield_now();
                continue;
            }
            let first = self.first.offset();
            if asked != 0 && self.control.read_u32(first + S_SPAWN_ERROR_SEQ) == asked {
                let word = self.control.read_u32(first + S_SPAWN_ERROR) as i32;
                return Err(refused("a guest thread", word));
            }
            if self.has_ended() {
                return Err(self.death());
            }
            if Instant::now() > deadline {
                return Err(self.corrupted("no thread was born"));
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl Drop for StubProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
