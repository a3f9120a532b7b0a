//! Wait queues and event masks.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bitflags::bitflags;
use ranked_sync::Mutex;
use smallvec::SmallVec;

use crate::lock_order;

bitflags! {
    /// What may happen to a file, in the bits of poll(2) and epoll_ctl(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct EventMask: u32 {
        const IN = libc::EPOLLIN as u32;
        const PRI = libc::EPOLLPRI as u32;
        const OUT = libc::EPOLLOUT as u32;
        const ERR = libc::EPOLLERR as u32;
        const HUP = libc::EPOLLHUP as u32;
        const RDNORM = libc::EPOLLRDNORM as u32;
        const RDBAND = libc::EPOLLRDBAND as u32;
        const WRNORM = libc::EPOLLWRNORM as u32;
        const WRBAND = libc::EPOLLWRBAND as u32;
        const RDHUP = libc::EPOLLRDHUP as u32;
    }
}

impl EventMask {
    /// Readable, in both spellings.
    pub const READABLE: Self = Self::IN.union(Self::RDNORM);
    /// Writable, in both spellings.
    pub const WRITABLE: Self = Self::OUT.union(Self::WRNORM);
    /// Reported whether asked for or not.
    pub const ALWAYS: Self = Self::ERR.union(Self::HUP);
}

/// Told when something happened. Called without the queue's lock, from any thread; must
/// not block, and may be called once more after its registration was dropped.
pub trait Notify: Send + Sync {
    fn notify(&self, events: EventMask);

    /// Of all who say so when they register, one is told of an event that is no error or hang-up (`WQ_FLAG_EXCLUSIVE`).
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Told like any other. False: there is nobody who could see to it now, so that the next one must be told, too.
    fn notify_exclusive(&self, events: EventMask) -> bool {
        self.notify(events);
        true
    }
}

struct Entry {
    id: u64,
    mask: EventMask,
    exclusive: bool,
    target: Arc<dyn Notify>,
}

#[derive(Default)]
struct Entries {
    next_id: u64,
    list: Vec<Entry>,
}

#[derive(Default)]
struct Shared {
    /// How many entries there are, so that waking no one takes no lock.
    count: AtomicUsize,
    entries: Mutex<lock_order::WaitQueue, Entries>,
}

/// The waiters of one object. Cloning gives another handle to the same queue.
#[derive(Clone, Default)]
pub struct WaitQueue(Arc<Shared>);

/// A place in a queue; dropping it leaves the queue.
#[must_use]
pub struct Registration {
    queue: WaitQueue,
    id: u64,
}

impl WaitQueue {
    /// No one waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `target` hears of events in `mask` (errors and hang-ups always).
    /// Check the condition again afterwards: it may have come true in between.
    pub fn register(&self, target: Arc<dyn Notify>, mask: EventMask) -> Registration {
        let exclusive = target.is_exclusive();
        let mut entries = self.0.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push(Entry { id, mask: mask | EventMask::ALWAYS, exclusive, target });
        // SeqCst pairs with the load in `wake`: a waiter that registers and then sees the old
        // state is seen by the waker that changes the state and then looks for waiters.
        self.0.count.store(entries.list.len(), Ordering::SeqCst);
        Registration { queue: self.clone(), id }
    }

    /// Tells all waiters for any of `events`; of the exclusive ones, in the order in which they came, no more than it takes to find
    /// one that can see to it.
    pub fn wake(&self, events: EventMask) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.0.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut targets: SmallVec<[(Arc<dyn Notify>, bool); 4]> = SmallVec::new();
        for entry in &self.0.entries.lock().list {
            if entry.mask.intersects(events) {
                targets.push((entry.target.clone(), entry.exclusive));
            }
        }
        let is_for_all = events.intersects(EventMask::ALWAYS);
        let mut is_seen_to = false;
        for (target, exclusive) in targets {
            if !exclusive {
                target.notify(events);
            } else if is_for_all || !is_seen_to {
                is_seen_to = target.notify_exclusive(events);
            }
        }
    }

    /// True when someone waits.
    pub fn has_waiters(&self) -> bool {
        self.waiters() != 0
    }

    /// How many registrations there are.
    pub fn waiters(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = {
            let mut entries = self.queue.0.entries.lock();
            let at = entries.list.iter().position(|entry| entry.id == self.id);
            // Keep the order: exclusive waiters are served first come, first served.
            let removed = at.map(|at| entries.list.remove(at));
            self.queue.0.count.store(entries.list.len(), Ordering::SeqCst);
            removed
        };
        drop(removed);
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitQueue({} waiting)", self.0.count.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registration({})", self.id)
    }
}

/// Collects registrations while files are polled, as Linux's `poll_table` does: a file's
/// `poll` names each queue it depends on, then says what is ready now.
pub struct PollTable {
    target: Option<Arc<dyn Notify>>,
    mask: EventMask,
    registrations: SmallVec<[Registration; 2]>,
}

impl PollTable {
    /// Only asks what is ready; registers nowhere.
    pub fn query() -> Self {
        Self { target: None, mask: EventMask::all(), registrations: SmallVec::new() }
    }

    /// Registers `target` for events in `mask` wherever the file waits.
    pub fn register(target: Arc<dyn Notify>, mask: EventMask) -> Self {
        Self { target: Some(target), mask, registrations: SmallVec::new() }
    }

    /// Called by a file's `poll` for each queue on which its readiness depends.
    pub fn wait_on(&mut self, queue: &WaitQueue) {
        if let Some(target) = &self.target {
            self.registrations.push(queue.register(target.clone(), self.mask));
        }
    }

    /// True when `wait_on` does something; lets a file skip building what it would wait on.
    pub fn registers(&self) -> bool {
        self.target.is_some()
    }

    /// Changes which events later `wait_on` calls ask for (poll(2) with many files).
    pub fn set_mask(&mut self, mask: EventMask) {
        self.mask = mask;
    }

    /// The registrations, to be kept for as long as events matter.
    pub fn into_registrations(self) -> SmallVec<[Registration; 2]> {
        self.registrations
    }
}

impl fmt::Debug for PollTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PollTable({} queues)", self.registrations.len())
    }
}
