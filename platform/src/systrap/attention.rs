//! When a sentry thread looks for its guest thread's next call instead of sleeping.
//!
//! Looking costs a processor, so it is done only while one has nothing else to do, and only
//! for a guest thread that makes call after call. It ends by itself: after a few microseconds
//! without a call, when more guest threads run than there are processors to spare, and for
//! a while when the looking thread finds that it was put off its processor.
//!
//! A guest thread whose calls are looked for is on another processor than its sentry thread, and waking it there
//! after a call that took long costs as much as several calls by notification save. So it is not done for
//! threads whose calls often wait for something, nor for those that take turns with others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::host;

/// How long to look for a call.
const PATIENCE: Duration = Duration::from_micros(25);
/// The same, for the first call after the guest thread was sent to another processor, or woken there: the
/// processor may have to wake.
const FIRST_PATIENCE: Duration = Duration::from_micros(80);
/// A call that comes so soon after the last reply would have been seen.
const SOON: Duration = Duration::from_micros(20);
/// So many calls must come soon, one after another, before it is worth looking.
const STREAK: u32 = 4;
/// So many calls must a thread have made before anybody looks: children that are about to execute something
/// make a few in a row, and are not worth another processor's wake-up.
const YOUTH: u32 = 16;
/// The memory of calls that came soon: the streak is halved by each that did not.
const MAX_STREAK: u32 = 8;
/// A call that takes so long has put its guest thread to sleep, in cycles of the time-stamp counter: some 20 µs.
/// So has one in which the sentry thread itself slept; and one that wakes another thread is as good as long, because
/// the two take turns, best on one processor.
const LONG_CALL: u64 = 50_000;
/// So many calls must there be for each long one, in the mean of the last ones, or so many since the last.
const CALLS_PER_LONG: u32 = 8;
const CALLS_WITHOUT_LONG: u32 = 64;
/// A thread takes turns with others when so many of its calls come after one of another thread.
const ALL_TURNS: u32 = 256;
const TAKES_TURNS: u32 = ALL_TURNS / 4;
/// Who is not on its processor for so long while looking shares it with others.
const GAP: Duration = Duration::from_micros(40);
/// For how long not to look after it was no use: at first, and at most, doubled each time.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// So many calls seen by looking show that it is of use again: together they saved what one look in vain costs.
const USEFUL: u32 = 16;
/// For how long not to look when all processors have guest threads to run.
const CROWDED_REST: Duration = Duration::from_micros(200);
/// Looks between two readings of the clock: less than a microsecond.
const LOOKS: u32 = 16;

/// What the threads of a sandbox know of each other.
#[derive(Debug)]
pub(super) struct Load {
    processors: u32,
    /// Guest threads in guest code.
    running: AtomicU32,
    /// Sentry threads that are looking.
    looking: AtomicU32,
    /// The guest thread whose call was served last.
    last_caller: AtomicI32,
    /// The processors that the sandbox may use.
    all: CpuSet,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            processors: u32::try_from(host::cpu_count()).unwrap_or(1),
            running: AtomicU32::new(0),
            looking: AtomicU32::new(0),
            last_caller: AtomicI32::new(0),
            all: sched_getaffinity(None).unwrap_or_default(),
        }
    }

    /// A guest thread is about to run guest code.
    pub(super) fn enter(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// It has stopped.
    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Is there a processor for one more, or still one for those who look?
    fn has_room(&self, more: u32) -> bool {
        let running = self.running.load(Ordering::Relaxed);
        let looking = self.looking.load(Ordering::Relaxed);
        running.saturating_add(looking).saturating_add(more) <= self.processors
    }
}

/// See the module. Belongs to one guest thread.
#[derive(Debug)]
pub(super) struct Attention {
    load: Arc<Load>,
    /// Calls by the bell that are left of its youth.
    youth: u32,
    /// Calls that came soon, one after another.
    streak: u32,
    /// Calls since the last long one, and between long ones in the mean, in sixteenths.
    calls: u32,
    mean_calls: u32,
    /// How many of the last calls came after one of another thread, of [`ALL_TURNS`].
    turns: u32,
    /// Calls seen by looking since it was last in vain.
    seen: u32,
    /// The guest thread is on another processor, and calls were seen by looking.
    settled: bool,
    /// It slept in its last call, over there.
    slept: bool,
    replied: Option<Instant>,
    rest: Duration,
    not_before: Option<Instant>,
    /// The guest thread is kept off the processor of the thread that looks.
    apart: bool,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// What was looked for is there.
    Found,
    /// To be waited for in the kernel.
    Nothing,
    /// The same; and the looking thread shares its processor with others.
    Crowded,
}

impl Attention {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self {
            load,
            youth: YOUTH,
            streak: 0,
            calls: 0,
            mean_calls: 16 * CALLS_PER_LONG,
            turns: 0,
            seen: 0,
            settled: false,
            slept: false,
            replied: None,
            rest: REST.0,
            not_before: None,
            apart: false,
        }
    }

    /// The guest thread begins another life.
    pub(super) fn start_over(&mut self) {
        *self = Self { apart: self.apart, ..Self::new(self.load.clone()) };
    }

    /// Sends the guest thread `tid` to another processor than this thread's, or lets it go where it
    /// likes. The scheduler would leave both on one, where neither gets on while the other looks.
    pub(super) fn keep_apart(&mut self, tid: i32, apart: bool) {
        if self.apart == apart {
            return;
        }
        let mut set = self.load.all;
        if apart {
            set.unset(sched_getcpu());
        }
        // A thread that has just ended is no matter.
        self.apart = sched_setaffinity(Pid::from_raw(tid), &set).is_ok() && apart;
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// A call came by the bell.
    pub(super) fn rung(&mut self) {
        let soon = self.replied.is_some_and(|replied| replied.elapsed() < SOON);
        self.streak =
            if soon { self.streak.saturating_add(1).min(MAX_STREAK) } else { self.streak / 2 };
        self.youth = self.youth.saturating_sub(1);
        self.settled = false;
    }

    /// A call of the guest thread `tid` was served in so many cycles. `switched`: the sentry thread slept or woke another meanwhile.
    pub(super) fn served(&mut self, tid: i32, cycles: u64, switched: bool) {
        let last = &self.load.last_caller;
        let others = last.load(Ordering::Relaxed) != tid;
        if others {
            last.store(tid, Ordering::Relaxed);
        }
        self.turns = (7 * self.turns + if others { ALL_TURNS } else { 0 }) / 8;
        self.calls = self.calls.saturating_add(1);
        if switched || cycles > LONG_CALL {
            let calls = 16 * self.calls.min(CALLS_WITHOUT_LONG);
            self.mean_calls = (3 * self.mean_calls + calls) / 4;
            self.calls = 0;
        }
    }

    fn calls_alone(&self) -> bool {
        let seldom_long =
            self.mean_calls >= 16 * CALLS_PER_LONG || self.calls >= CALLS_WITHOUT_LONG;
        seldom_long && self.turns < TAKES_TURNS
    }

    /// The guest thread had gone to sleep in a call that took long, and was woken where it is.
    pub(super) fn woke(&mut self) {
        self.slept = true;
    }

    /// Something else came than a call from a rewritten site.
    pub(super) fn trapped(&mut self) {
        self.streak = 0;
        self.settled = false;
    }

    /// To be asked before the reply: will there be looking after it? The guest thread counts as
    /// running already.
    pub(super) fn will_look(&mut self) -> bool {
        if self.settled {
            return self.load.has_room(1);
        }
        // The clock is read for the sake of `rung`, which decides on the streak.
        let now = Instant::now();
        self.replied = Some(now);
        self.youth == 0
            && self.streak >= STREAK
            && self.calls_alone()
            && self.not_before.is_none_or(|then| now >= then)
            && self.load.has_room(1)
    }

    /// Looks until `found` says that it is there.
    pub(super) fn look(&mut self, mut found: impl FnMut() -> bool) -> Seen {
        for _ in 0..4 * LOOKS {
            if found() {
                return self.found();
            }
            std::hint::spin_loop();
        }
        self.load.looking.fetch_add(1, Ordering::Relaxed);
        let seen = self.look_long(found);
        self.load.looking.fetch_sub(1, Ordering::Relaxed);
        seen
    }

    fn look_long(&mut self, mut found: impl FnMut() -> bool) -> Seen {
        let is_there = self.settled && !self.slept;
        let patience = if is_there { PATIENCE } else { FIRST_PATIENCE };
        let start = Instant::now();
        let mut last = start;
        loop {
            for _ in 0..LOOKS {
                if found() {
                    return self.found();
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if now.duration_since(last) > GAP {
                // Somebody else wanted this processor.
                self.nothing(now, Why::PutOff);
                return Seen::Crowded;
            }
            last = now;
            if now.duration_since(start) > patience {
                return self.nothing(now, Why::Late);
            }
            if !self.load.has_room(0) {
                return self.nothing(now, Why::Crowded);
            }
        }
    }

    fn found(&mut self) -> Seen {
        self.settled = true;
        self.slept = false;
        self.streak = MAX_STREAK;
        self.seen = self.seen.saturating_add(1);
        Seen::Found
    }

    /// The next call comes by the bell.
    fn nothing(&mut self, now: Instant, why: Why) -> Seen {
        match why {
            Why::Late if self.settled => self.streak /= 2,
            Why::Crowded => self.not_before = now.checked_add(CROWDED_REST),
            Why::Late | Why::PutOff => {
                if self.seen >= USEFUL {
                    self.rest = REST.0;
                }
                self.seen = 0;
                self.not_before = now.checked_add(self.rest);
                self.rest = (self.rest * 2).min(REST.1);
            }
        }
        self.settled = false;
        self.slept = false;
        Seen::Nothing
    }
}

/// Why looking ended with nothing seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// No call came in time.
    Late,
    /// More guest threads run than there are processors to spare.
    Crowded,
    /// Another program had this processor meanwhile.
    PutOff,
}
