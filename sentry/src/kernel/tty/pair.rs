//! A pseudo-terminal: both ends, what waits between them, and to whom it belongs.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, OnceLock, Weak},
};

use linux_abi::WindowSize;
use ranked_sync::Mutex;
use smallvec::SmallVec;

use super::{line_discipline::LineDiscipline, packet, termios::cc};
use crate::{
    fs::pseudo::Attr,
    lock_order,
    vfs::SetAttr,
    wait::{EventMask, WaitQueue},
};

/// Typed bytes that may wait in front of the line discipline (`tty_buffer_set_limit` for ptys).
const TYPED_BYTES: usize = 8192;

/// How a terminal reaches processes.
pub trait Groups: Send + Sync + fmt::Debug {
    /// Sends a signal of the kernel's to each process of the group.
    fn signal_group(&self, pgid: i32, signal: i32);

    /// Sends one to a process.
    fn signal_process(&self, pid: i32, signal: i32);
}

/// A terminal.
pub struct Tty {
    this: Weak<Self>,
    number: u32,
    groups: Arc<dyn Groups>,
    /// Who owns its node (uid, gid) until someone looks at it; afterwards the node knows.
    creator: Mutex<lock_order::Leaf, (u32, u32)>,
    node: OnceLock<Arc<Attr>>,
    pub(super) state: Mutex<lock_order::Tty, State>,
    /// Who waits at the slave, and at the master.
    pub(super) slave_queue: WaitQueue,
    pub(super) master_queue: WaitQueue,
}

/// What a terminal's lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) discipline: LineDiscipline,
    typed: VecDeque<u8>,
    pub(super) window: WindowSize,
    /// TIOCPKT.
    pub(super) packet_mode: bool,
    /// TIOCSPTLCK: the slave cannot be opened yet.
    pub(super) locked: bool,
    /// TIOCEXCL.
    pub(super) exclusive: bool,
    /// False once the master is closed: the terminal is hung up for good.
    pub(super) master_open: bool,
    /// Open descriptions of the slave.
    pub(super) slaves: usize,
    pub(super) slave_was_open: bool,
    /// The session it controls, and that session's foreground group. 0: none.
    pub(super) session: i32,
    pub(super) foreground: i32,
}

impl State {
    /// Has the last program closed the slave? (Not: it was never open.)
    pub(super) fn slave_closed(&self) -> bool {
        self.slaves == 0 && self.slave_was_open
    }

    /// Lets the discipline take what was typed.
    fn pump(&mut self) {
        let taken = self.discipline.receive(self.typed.make_contiguous());
        self.typed.drain(..taken);
    }

    /// What was typed and not yet looked at, too.
    pub(super) fn flush_input(&mut self) {
        self.discipline.flush_input();
        self.typed.clear();
    }

    fn levels(&self) -> Levels {
        let discipline = &self.discipline;
        Levels {
            readable: discipline.is_readable(self.minimum_for_poll()),
            unread: discipline.input.len(),
            typed: self.typed.len(),
            printed: discipline.output.len(),
            stopped: discipline.output.stopped,
            packet: self.packet_mode && discipline.packet_events != 0,
        }
    }

    /// How many bytes make a raw terminal readable for poll(2): VMIN, if VTIME is 0.
    pub(super) fn minimum_for_poll(&self) -> usize {
        let settings = &self.discipline.settings;
        let minimum = usize::from(settings.char(cc::VMIN));
        if settings.char(cc::VTIME) == 0 { minimum.max(1) } else { 1 }
    }
}

/// How full everything is: compared before and after a change, to know whom to wake.
struct Levels {
    readable: bool,
    unread: usize,
    typed: usize,
    printed: usize,
    stopped: bool,
    packet: bool,
}

impl Tty {
    /// A new terminal, its master open and its slave locked.
    pub(super) fn new(number: u32, groups: Arc<dyn Groups>, creator: (u32, u32)) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            number,
            groups,
            creator: Mutex::new(creator),
            node: OnceLock::new(),
            state: Mutex::new(State {
                discipline: LineDiscipline::default(),
                typed: VecDeque::new(),
                window: WindowSize::default(),
                packet_mode: false,
                locked: true,
                exclusive: false,
                master_open: true,
                slaves: 0,
                slave_was_open: false,
                session: 0,
                foreground: 0,
            }),
            slave_queue: WaitQueue::new(),
            master_queue: WaitQueue::new(),
        })
    }

    /// Another handle to it.
    pub fn handle(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// The N of `/dev/pts/N`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// `st_rdev` of the slave.
    pub fn device(&self) -> u64 {
        crate::fs::dev::device_number(crate::fs::dev::PTY_SLAVE_MAJOR, self.number)
    }

    /// Gives its node to a user.
    pub fn set_owner(&self, uid: u32, gid: u32) {
        *self.creator.lock() = (uid, gid);
        if let Some(node) = self.node.get() {
            // A node that follows no one can always be given away.
            let _ = node.set(&SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() });
        }
    }

    /// The attributes of its node, made from the creator's ids when they are first needed.
    pub fn node(&self, make: impl FnOnce(u32, u32) -> Attr) -> Arc<Attr> {
        let (uid, gid) = *self.creator.lock();
        self.node.get_or_init(|| Arc::new(make(uid, gid))).clone()
    }

    /// The group in the foreground and the session; 0 where there is none.
    pub fn owner(&self) -> (i32, i32) {
        let state = self.state.lock();
        (state.foreground, state.session)
    }

    pub(super) fn groups(&self) -> &dyn Groups {
        &*self.groups
    }

    /// Changes the state, then sends the signals and wakes the waiters that follow from the change.
    pub(super) fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let (result, signals, foreground, before, after) = {
            let mut state = self.state.lock();
            let before = state.levels();
            let result = f(&mut state);
            state.pump();
            if !state.packet_mode {
                state.discipline.packet_events = 0;
            }
            let signals: SmallVec<[i32; 2]> = std::mem::take(&mut state.discipline.signals);
            (result, signals, state.foreground, before, state.levels())
        };
        for signal in signals {
            if foreground > 0 {
                self.groups.signal_group(foreground, signal);
            }
        }
        self.wake_for(&before, &after);
        result
    }

    fn wake_for(&self, before: &Levels, after: &Levels) {
        let mut slave = EventMask::empty();
        let mut master = EventMask::empty();
        if after.readable && (!before.readable || after.unread > before.unread) {
            slave |= EventMask::READABLE;
        }
        if after.printed < before.printed || (before.stopped && !after.stopped) {
            slave |= EventMask::WRITABLE;
        }
        if after.printed > before.printed {
            master |= EventMask::READABLE;
        }
        if after.packet && !before.packet {
            master |= EventMask::READABLE | EventMask::PRI;
        }
        if after.typed < before.typed {
            master |= EventMask::WRITABLE;
        }
        if !slave.is_empty() {
            self.slave_queue.wake(slave);
        }
        if !master.is_empty() {
            self.master_queue.wake(master);
        }
    }

    /// The master types; how many bytes there was room for.
    pub(super) fn type_in(&self, bytes: &[u8]) -> usize {
        self.change(|state| {
            let direct = if state.typed.is_empty() { state.discipline.receive(bytes) } else { 0 };
            let rest = bytes.get(direct..).unwrap_or_default();
            let n = rest.len().min(TYPED_BYTES.saturating_sub(state.typed.len()));
            state.typed.extend(&rest[..n]);
            direct + n
        })
    }

    /// Can the master type more?
    pub(super) fn accepts_typing(&self, state: &State) -> bool {
        state.typed.len() < TYPED_BYTES
    }

    /// What the master reads: up to `max` bytes, in packet mode behind a status byte. `None`: nothing.
    pub(super) fn take_printed(&self, max: usize) -> Option<Vec<u8>> {
        self.change(|state| {
            let discipline = &mut state.discipline;
            if !state.packet_mode {
                return (!discipline.output.is_empty()).then(|| discipline.output.take(max));
            }
            let events = std::mem::take(&mut discipline.packet_events);
            if events != 0 {
                return Some(vec![events]);
            }
            if discipline.output.is_empty() {
                return None;
            }
            let mut bytes = vec![packet::DATA];
            bytes.extend(discipline.output.take(max.saturating_sub(1)));
            Some(bytes)
        })
    }

    /// TIOCSWINSZ from either side; the foreground group hears of a change.
    pub(super) fn resize(&self, window: WindowSize) {
        self.change(|state| {
            if state.window != window {
                state.window = window;
                state.discipline.signals.push(libc::SIGWINCH);
            }
        });
    }
}

impl fmt::Debug for Tty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tty({})", self.number)
    }
}
