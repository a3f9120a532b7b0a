//! Where guest threads run. A guest thread and the sentry thread that traces it take turns:
//! on one processor that costs 3 microseconds, across two that sleep in between ten times as
//! much. So each such pair is held to one processor, its home.
//!
//! A balancer thread looks after them every few milliseconds while any is at work, and sleeps
//! otherwise. It lets go of a guest thread that computes without stopping, so that the host's
//! scheduler spreads these over the processors; and moves homes from busy processors to idle
//! ones.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ranked_sync::Mutex;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::{host::Parker, lock_order::PairTable};

/// How often the balancer looks. A guest thread seen twice at the same place computes.
const PERIOD: Duration = Duration::from_millis(5);
/// So many quiet looks, and it sleeps.
const QUIET_LOOKS: u32 = 20;
/// How often it looks between two moves.
const LOOKS_PER_MOVE: u32 = 10;
/// A pair without a home gets one again when it stops this often between two looks.
const BUSY_STOPS: u32 = 40;
/// The load of a pair that was in guest code at every look.
const FULL: u32 = 1 << 10;

/// No home: both threads may run anywhere.
const LOOSE: usize = usize::MAX;

/// See the module. One per sandbox.
#[derive(Debug)]
pub(super) struct Placement {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the sandbox may use.
    cpus: Vec<usize>,
    all: CpuSet,
    pairs: Mutex<PairTable, Vec<Weak<Shared>>>,
    asleep: AtomicBool,
    stop: AtomicBool,
    wake: Parker,
}

#[derive(Debug)]
struct Shared {
    /// The guest thread, or 0.
    tid: AtomicI32,
    /// Entries plus returns: odd while in guest code.
    turns: AtomicU32,
    home: AtomicUsize,
}

/// A guest thread and the sentry thread that traces it.
#[derive(Debug)]
pub(super) struct Pair {
    inner: Arc<Inner>,
    shared: Arc<Shared>,
    /// The home which both threads have been told.
    told: Option<usize>,
}

fn one(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}

impl Placement {
    pub(super) fn new() -> Self {
        let all = sched_getaffinity(None).unwrap_or_default();
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
        let inner = Arc::new(Inner {
            cpus,
            all,
            pairs: Mutex::default(),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake: Parker::new(),
        });
        let theirs = inner.clone();
        let thread = std::thread::Builder::new().name("balancer".into()).stack_size(128 << 10);
        if let Err(error) = thread.spawn(move || theirs.balance()) {
            tracing::warn!("guest threads are not spread over the processors: {error}");
        }
        Self { inner }
    }

    /// The calling thread's processor, where it matters.
    pub(super) fn here(&self) -> Option<usize> {
        self.inner.matters().then(sched_getcpu)
    }

    /// Holds a helper thread to a processor.
    pub(super) fn hold(&self, tid: i32, cpu: Option<usize>) {
        if let Some(cpu) = cpu {
            self.inner.tell(tid, cpu);
        }
    }

    /// A pair of the calling thread and a guest thread to be named. Its home is here.
    pub(super) fn new_pair(&self) -> Pair {
        let home = self.here().unwrap_or(LOOSE);
        let shared = Arc::new(Shared {
            tid: AtomicI32::new(0),
            turns: AtomicU32::new(0),
            home: AtomicUsize::new(home),
        });
        self.inner.pairs.lock().push(Arc::downgrade(&shared));
        Pair { inner: self.inner.clone(), shared, told: None }
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::SeqCst);
        self.inner.wake.unpark();
    }
}

impl Pair {
    /// Names the guest thread; 0 for none.
    pub(super) fn aim(&mut self, tid: i32) {
        self.shared.tid.store(tid, Ordering::SeqCst);
        self.told = None;
    }

    /// The guest thread is about to run.
    #[inline]
    pub(super) fn enter(&mut self) {
        let home = self.shared.home.load(Ordering::Relaxed);
        if self.told != Some(home) {
            self.told = Some(home);
            if self.inner.matters() {
                self.inner.tell(0, home);
                self.inner.tell(self.shared.tid.load(Ordering::Relaxed), home);
            }
        }
        self.shared.turns.fetch_add(1, Ordering::SeqCst);
        if self.inner.asleep.load(Ordering::SeqCst) {
            self.inner.asleep.store(false, Ordering::SeqCst);
            self.inner.wake.unpark();
        }
    }

    /// It has stopped.
    #[inline]
    pub(super) fn leave(&self) {
        self.shared.turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the balancer remembers of a pair.
#[derive(Default)]
struct Seen {
    turns: u32,
    load: u32,
}

impl Inner {
    fn matters(&self) -> bool {
        self.cpus.len() > 1
    }

    /// Tells the host where a thread (0: the calling one) may run.
    fn tell(&self, tid: i32, home: usize) {
        let set = if home == LOOSE { self.all } else { one(home) };
        // A thread that has just ended is no matter.
        let _ = sched_setaffinity(Pid::from_raw(tid), &set);
    }

    /// The balancer's life.
    fn balance(&self) {
        let mut seen: Vec<(Weak<Shared>, Seen)> = Vec::new();
        let (mut quiet, mut looks) = (0, 0u32);
        while !self.stop.load(Ordering::SeqCst) && self.matters() {
            if quiet >= QUIET_LOOKS {
                self.asleep.store(true, Ordering::SeqCst);
                if !self.look(&mut seen) {
                    self.wake.park(None);
                }
                self.asleep.store(false, Ordering::SeqCst);
                quiet = 0;
                continue;
            }
            std::thread::sleep(PERIOD);
            quiet = if self.look(&mut seen) { 0 } else { quiet + 1 };
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_PER_MOVE) {
                self.even_out(&mut seen);
            }
        }
    }

    /// Looks at each pair; true when any is at work.
    fn look(&self, seen: &mut Vec<(Weak<Shared>, Seen)>) -> bool {
        let new: Vec<_> = std::mem::take(&mut *self.pairs.lock());
        seen.extend(new.into_iter().map(|pair| (pair, Seen::default())));
        seen.retain(|(pair, _)| pair.strong_count() > 0);
        let mut active = false;
        for (pair, seen) in seen {
            let Some(pair) = pair.upgrade() else { continue };
            let turns = pair.turns.load(Ordering::SeqCst);
            let (passed, inside) = (turns.wrapping_sub(seen.turns), turns % 2 == 1);
            active |= inside || passed > 0;
            seen.turns = turns;
            seen.load -= seen.load / 16;
            if inside {
                seen.load += FULL / 16;
            }
            let loose = pair.home.load(Ordering::Relaxed) == LOOSE;
            if inside && passed == 0 && !loose {
                pair.home.store(LOOSE, Ordering::Relaxed);
                self.tell(pair.tid.load(Ordering::Relaxed), LOOSE);
            } else if loose && passed > BUSY_STOPS {
                // On one of the less busy: `even_out` corrects it.
                pair.home.store(self.some_cpu(turns), Ordering::Relaxed);
            }
        }
        active
    }

    fn some_cpu(&self, number: u32) -> usize {
        let at = number as usize / 2 % self.cpus.len().max(1);
        self.cpus.get(at).copied().unwrap_or(LOOSE)
    }

    /// Moves one pair from the busiest processor to the idlest, where that helps.
    fn even_out(&self, seen: &mut [(Weak<Shared>, Seen)]) {
        let mut loads: Vec<(usize, u32)> = self.cpus.iter().map(|cpu| (*cpu, 0)).collect();
        let mut homed: Vec<(Arc<Shared>, u32)> = Vec::new();
        for (pair, seen) in seen.iter() {
            let Some(pair) = pair.upgrade() else { continue };
            let home = pair.home.load(Ordering::Relaxed);
            if let Some((_, load)) = loads.iter_mut().find(|(cpu, _)| *cpu == home) {
                *load += seen.load;
                homed.push((pair, seen.load));
            }
        }
        let (Some(busiest), Some(idlest)) = (
            loads.iter().copied().max_by_key(|(_, load)| *load),
            loads.iter().copied().min_by_key(|(_, load)| *load),
        ) else {
            return;
        };
        let gap = busiest.1 - idlest.1;
        // Half of the time in guest code is as busy as a pair that makes calls can be.
        if busiest.1 < FULL / 2 {
            return;
        }
        let movable = homed
            .into_iter()
            .filter(|(pair, load)| {
                pair.home.load(Ordering::Relaxed) == busiest.0 && *load < gap && *load > FULL / 16
            })
            .max_by_key(|(_, load)| *load);
        if let Some((pair, _)) = movable {
            pair.home.store(idlest.0, Ordering::Relaxed);
        }
    }
}
