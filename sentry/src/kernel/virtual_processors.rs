//! Virtual processors: which threads that use rseq(2) may be in guest code, and as which processor.
//!
//! The host preempts a guest thread at any instruction and tells nobody, so what the guest is shown as the
//! processor is not the host's, but a place that the sentry gives away: no two threads that are in guest code
//! have the same one. A processor is with the thread that had it last:
//! * `RUNNING`: that thread is in guest code, and nobody else may have it;
//! * `TRAPPED`: the thread is in the sentry and will be back soon. It keeps the processor until its slice is over;
//! * `IDLE`: the thread sleeps, yields or is gone. Who wants the processor takes it.
//!
//! Going in and out of guest code with a processor that nobody else took is one atomic operation each. All else
//! is done under the lock. Who finds no processor waits, in order of arrival. When a slice is over
//! and somebody waits, a timer kicks the thread out of guest code. Nobody holds a lock while it waits
//! or is in guest code.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use platform::{Kick, host::clock_monotonic_ns};
use ranked_sync::Mutex;
use smallvec::SmallVec;

use super::TaskWaker;
use crate::{
    lock_order,
    time::{Monotonic, TimerHandle, TimerQueue},
    wait::{EventMask, Notify},
};

/// How long a thread keeps a processor while others wait, in nanoseconds. A kick costs some ten microseconds;
/// a thread that becomes ready waits for half of this where all processors compute.
const SLICE_NS: u64 = 5_000_000;

/// What the low bits of a processor's word say; above them is the number of who had it last.
const IDLE: u64 = 0;
const TRAPPED: u64 = 1;
const RUNNING: u64 = 2;
const PLACE_BITS: u32 = 2;
const PLACES: u64 = (1 << PLACE_BITS) - 1;

/// In [`Seat::granted`]: none yet.
const NONE: u32 = u32::MAX;

/// All of a sandbox.
pub(super) struct VirtualProcessors {
    this: Weak<Self>,
    all: Box<[Processor]>,
    /// Numbers of owners are not used twice.
    next_owner: AtomicU64,
    /// How long the queue is, for those who leave guest code.
    waiting: AtomicUsize,
    state: Mutex<lock_order::VirtualProcessors, State>,
    timers: Arc<TimerQueue>,
}

#[derive(Default)]
struct Processor {
    word: AtomicU64,
    /// When its owner got it, or came back to it from a sleep.
    since: AtomicU64,
}

#[derive(Default)]
struct State {
    /// By ticket.
    queue: VecDeque<Arc<Seat>>,
    next_ticket: u64,
    /// How to get the owner of each processor out of guest code.
    kicks: Vec<Option<Arc<dyn Kick>>>,
    timer: Option<TimerHandle>,
}

/// Whom a processor is for: one registration of one thread.
#[derive(Clone)]
pub(super) struct Owner {
    number: u64,
    kick: Option<Arc<dyn Kick>>,
    waker: Arc<TaskWaker>,
    /// Its place in the queue, if it was interrupted while it waited.
    ticket: Option<u64>,
}

/// A thread that waits.
struct Seat {
    owner: Owner,
    ticket: u64,
    /// The processor it had last.
    last: Option<u32>,
    allowed: Option<Box<[u64]>>,
    granted: AtomicU32,
}

/// What is to be done when the lock is open again.
#[derive(Default)]
struct Due {
    woken: SmallVec<[Arc<Seat>; 4]>,
    kicked: SmallVec<[Arc<dyn Kick>; 4]>,
}

impl Due {
    fn carry_out(self) {
        self.kicked.iter().for_each(|kick| kick.kick());
        self.woken.iter().for_each(|seat| seat.owner.waker.parker().unpark());
    }
}

/// Is that processor in the mask (`None`: of all)?
pub(crate) fn is_allowed(mask: Option<&[u64]>, processor: u32) -> bool {
    mask.is_none_or(|mask| {
        mask.get(processor as usize / 64).is_some_and(|word| word >> (processor % 64) & 1 != 0)
    })
}

impl Owner {
    fn in_place(&self, place: u64) -> u64 {
        self.number << PLACE_BITS | place
    }
}

impl VirtualProcessors {
    pub(super) fn new(count: usize, timers: Arc<TimerQueue>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            all: (0..count).map(|_| Processor::default()).collect(),
            next_owner: AtomicU64::new(1),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State { kicks: vec![None; count], ..State::default() }),
            timers,
        })
    }

    /// How many there are; their numbers are below.
    pub(super) fn count(&self) -> u32 {
        self.all.len() as u32
    }

    /// A new owner, which has none yet. `kick` gets the thread out of guest code.
    pub(super) fn new_owner(&self, kick: Option<Arc<dyn Kick>>, waker: Arc<TaskWaker>) -> Owner {
        let number = self.next_owner.fetch_add(1, Ordering::Relaxed);
        Owner { number, kick, waker, ticket: None }
    }

    /// Before guest code: true when `processor` is still the owner's and nobody else had it meanwhile.
    #[inline]
    pub(super) fn resume(&self, owner: &Owner, processor: u32) -> bool {
        let Some(processor) = self.all.get(processor as usize) else { return false };
        let running = owner.in_place(RUNNING);
        let from = |place: u64| {
            let (seen, order) = (owner.in_place(place), Ordering::SeqCst);
            processor.word.compare_exchange(seen, running, order, Ordering::Relaxed).is_ok()
        };
        if from(TRAPPED) {
            return true;
        }
        let was_idle = from(IDLE);
        if was_idle {
            processor.since.store(clock_monotonic_ns(), Ordering::Relaxed);
        }
        was_idle
    }

    /// After guest code. The owner is in guest code as `processor`.
    #[inline]
    pub(super) fn leave(&self, owner: &Owner, processor: u32) {
        let Some(processor) = self.all.get(processor as usize) else { return };
        processor.word.store(owner.in_place(TRAPPED), Ordering::SeqCst);
        // Who comes to wait counts itself before it looks at the word.
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.leave_to_others(processor);
        }
    }

    #[cold]
    fn leave_to_others(&self, processor: &Processor) {
        let now = clock_monotonic_ns();
        if processor.is_over(now) {
            self.distribute(now);
        }
    }

    /// The owner sleeps, yields, or is gone: whoever wants `processor` may have it. Nothing happens if it was taken already.
    pub(super) fn give_up(&self, owner: &Owner, processor: u32) {
        let Some(processor) = self.all.get(processor as usize) else { return };
        let (from, to) = (owner.in_place(TRAPPED), owner.in_place(IDLE));
        let order = Ordering::SeqCst;
        let was_ours = processor.word.compare_exchange(from, to, order, Ordering::Relaxed).is_ok();
        if was_ours && self.waiting.load(Ordering::SeqCst) != 0 {
            self.distribute(clock_monotonic_ns());
        }
    }

    /// Waits for a processor of `allowed` (`None`: of all), if possible the last one; the owner is in guest code as
    /// that one now. `None` when the thread was interrupted: it comes again, and keeps its place in the queue.
    pub(super) fn take(
        &self,
        owner: &mut Owner,
        last: Option<u32>,
        allowed: Option<Box<[u64]>>,
    ) -> Option<u32> {
        // Nobody waits for what there is not.
        let allowed =
            allowed.filter(|mask| (0..self.count()).any(|cpu| is_allowed(Some(mask), cpu)));
        let now = clock_monotonic_ns();
        let mut state = self.state.lock();
        let ticket = owner.ticket.take().unwrap_or_else(|| {
            state.next_ticket += 1;
            state.next_ticket
        });
        let seat = Seat { owner: owner.clone(), ticket, last, allowed, granted: NONE.into() };
        if state.queue.is_empty()
            && let Some(processor) = self.grant(&mut state, &seat, &mut self.free(now), now)
        {
            return Some(processor);
        }
        let seat = Arc::new(seat);
        let at = state.queue.partition_point(|other| other.ticket < ticket);
        state.queue.insert(at, seat.clone());
        self.waiting.store(state.queue.len(), Ordering::SeqCst);
        let due = self.look(&mut state, now);
        drop(state);
        due.carry_out();
        loop {
            if let Some(processor) = seat.processor() {
                return Some(processor);
            }
            if seat.owner.waker.is_interrupted() {
                break;
            }
            seat.owner.waker.parker().park(None);
        }
        let mut state = self.state.lock();
        if let Some(processor) = seat.processor() {
            return Some(processor);
        }
        state.queue.retain(|other| !Arc::ptr_eq(other, &seat));
        self.waiting.store(state.queue.len(), Ordering::SeqCst);
        owner.ticket = Some(ticket);
        None
    }

    fn distribute(&self, now: u64) {
        let due = self.look(&mut self.state.lock(), now);
        due.carry_out();
    }

    /// Gives what can be had to those who wait, the first first. For the others somebody is kicked whose slice is
    /// over, and the timer says when the next one's is.
    fn look(&self, state: &mut State, now: u64) -> Due {
        let mut due = Due::default();
        let mut free = self.free(now);
        let mut at = 0;
        while !free.is_empty()
            && let Some(seat) = state.queue.get(at).cloned()
        {
            if let Some(processor) = self.grant(state, &seat, &mut free, now) {
                seat.granted.store(processor, Ordering::Release);
                state.queue.remove(at);
                due.woken.push(seat);
            } else {
                at += 1;
            }
        }
        self.waiting.store(state.queue.len(), Ordering::SeqCst);
        if !state.queue.is_empty() {
            self.choose_to_kick(state, now, &mut due);
            self.set_timer(state, now);
        }
        due
    }

    /// Those that may be taken: they and their words.
    fn free(&self, now: u64) -> SmallVec<[(u32, u64); 8]> {
        let words = (0..).zip(&self.all).map(|(number, processor)| {
            let word = processor.word.load(Ordering::SeqCst);
            let is_free = match word & PLACES {
                IDLE => true,
                TRAPPED => processor.is_over(now),
                _ => false,
            };
            is_free.then_some((number, word))
        });
        words.flatten().collect()
    }

    /// Makes one of `free` the seat's, and takes it off.
    fn grant(
        &self,
        state: &mut State,
        seat: &Seat,
        free: &mut SmallVec<[(u32, u64); 8]>,
        now: u64,
    ) -> Option<u32> {
        let fits = |&(number, _): &(u32, u64)| is_allowed(seat.allowed.as_deref(), number);
        loop {
            let last = free.iter().position(|one| Some(one.0) == seat.last && fits(one));
            let (number, word) = free.remove(last.or_else(|| free.iter().position(fits))?);
            let Some(processor) = self.all.get(number as usize) else { continue };
            let (to, order) = (seat.owner.in_place(RUNNING), Ordering::SeqCst);
            // Its owner may just have come back.
            if processor.word.compare_exchange(word, to, order, Ordering::Relaxed).is_ok() {
                processor.since.store(now, Ordering::Relaxed);
                if let Some(kick) = state.kicks.get_mut(number as usize) {
                    kick.clone_from(&seat.owner.kick);
                }
                return Some(number);
            }
        }
    }

    /// For each who waits, the one in guest code whose slice has been over for longest.
    fn choose_to_kick(&self, state: &State, now: u64, due: &mut Due) {
        let running = (0_u32..).zip(&self.all).filter(|(_, processor)| {
            processor.word.load(Ordering::SeqCst) & PLACES == RUNNING && processor.is_over(now)
        });
        let mut running: SmallVec<[(u64, u32); 8]> = running
            .map(|(number, processor)| (processor.since.load(Ordering::Relaxed), number))
            .collect();
        running.sort_unstable();
        for seat in &state.queue {
            let mut wanted = running.iter();
            let wanted = wanted.position(|one| is_allowed(seat.allowed.as_deref(), one.1));
            if let Some(at) = wanted {
                let (_, number) = running.remove(at);
                due.kicked.extend(state.kicks.get(number as usize).cloned().flatten());
            }
            if running.is_empty() {
                break;
            }
        }
    }

    /// To look again when the next slice ends; those who were kicked will be out long before theirs would.
    fn set_timer(&self, state: &mut State, now: u64) {
        let ends = self.all.iter().map(|processor| {
            let since = processor.since.load(Ordering::Relaxed);
            if processor.is_over(now) { now } else { since }.saturating_add(SLICE_NS)
        });
        let Some(next) = ends.min().map(Monotonic) else { return };
        let is_set = |timer: &TimerHandle| timer.deadline() <= next && timer.deadline().0 > now;
        if !state.timer.as_ref().is_some_and(is_set)
            && let Some(this) = self.this.upgrade()
        {
            state.timer = Some(self.timers.arm(next, this));
        }
    }
}

impl Processor {
    fn is_over(&self, now: u64) -> bool {
        now >= self.since.load(Ordering::Relaxed).saturating_add(SLICE_NS)
    }
}

impl Seat {
    fn processor(&self) -> Option<u32> {
        Some(self.granted.load(Ordering::Acquire)).filter(|&granted| granted != NONE)
    }
}

impl Notify for VirtualProcessors {
    /// The timer.
    fn notify(&self, _events: EventMask) {
        self.distribute(clock_monotonic_ns());
    }
}

impl fmt::Debug for VirtualProcessors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VirtualProcessors({} of {} waiting)",
            self.waiting.load(Ordering::Relaxed),
            self.count()
        )
    }
}

#[cfg(test)]
mod tests;
