//! One watched file of an epoll set.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bitflags::bitflags;
use ranked_sync::Mutex;
use smallvec::SmallVec;

use super::EpollSet;
use crate::{
    lock_order,
    user::Fd,
    vfs::FileDescription,
    wait::{EventMask, Notify, PollTable, Registration},
};

bitflags! {
    /// The input flags of epoll_ctl(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InterestFlags: u32 {
        const EDGE = libc::EPOLLET as u32;
        const ONESHOT = libc::EPOLLONESHOT as u32;
        const EXCLUSIVE = libc::EPOLLEXCLUSIVE as u32;
        const WAKEUP = libc::EPOLLWAKEUP as u32;
    }
}

/// What epoll_ctl(2) asked for.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    pub events: EventMask,
    pub flags: InterestFlags,
    pub data: u64,
}

/// A file in an interest list.
pub(super) struct Item {
    me: Weak<Self>,
    set: Weak<EpollSet>,
    file: Weak<FileDescription>,
    file_id: u64,
    fd: Fd,
    interest: Mutex<lock_order::Leaf, Interest>,
    /// On the ready list, or about to be.
    queued: AtomicBool,
    /// Out of the set; a late event must not bring it back.
    removed: AtomicBool,
    registrations: Mutex<lock_order::Leaf, SmallVec<[Registration; 2]>>,
}

impl Item {
    pub(super) fn new(
        set: Weak<EpollSet>,
        file: &Arc<FileDescription>,
        fd: Fd,
        interest: Interest,
    ) -> Arc<Self> {
        let item = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            set,
            file: Arc::downgrade(file),
            file_id: file.id(),
            fd,
            interest: Mutex::new(interest),
            queued: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            registrations: Mutex::default(),
        });
        item.set_interest(interest);
        item
    }

    pub(super) fn key(&self) -> (u64, i32) {
        (self.file_id, self.fd.0)
    }

    /// `None` when it is closed, or the item out of the set.
    pub(super) fn file(&self) -> Option<Arc<FileDescription>> {
        if self.removed.load(Ordering::SeqCst) { None } else { self.file.upgrade() }
    }

    pub(super) fn data(&self) -> u64 {
        self.interest.lock().data
    }

    /// Errors and hang-ups are always wanted, until a one-shot item has fired.
    pub(super) fn set_interest(&self, mut interest: Interest) {
        interest.events |= EventMask::ALWAYS;
        *self.interest.lock() = interest;
    }

    pub(super) fn wanted(&self) -> EventMask {
        self.interest.lock().events
    }

    /// Waits on the file's queues for everything (what is wanted may change), and says what
    /// is ready now.
    pub(super) fn register(self: &Arc<Self>, file: &FileDescription) -> EventMask {
        let mut table = PollTable::register(self.clone(), EventMask::all());
        let ready = file.ops().poll(file, &mut table);
        *self.registrations.lock() = table.into_registrations();
        ready
    }

    /// Ends its part in the set.
    pub(super) fn unregister(&self) {
        self.removed.store(true, Ordering::SeqCst);
        let registrations = std::mem::take(&mut *self.registrations.lock());
        drop(registrations);
    }

    pub(super) fn poll(&self, file: &FileDescription) -> EventMask {
        file.ops().poll(file, &mut PollTable::query())
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::SeqCst)
    }

    /// True when it was queued already.
    pub(super) fn mark_queued(&self) -> bool {
        self.queued.swap(true, Ordering::SeqCst)
    }

    pub(super) fn clear_queued(&self) {
        self.queued.store(false, Ordering::SeqCst);
    }

    /// An event was reported. True when the item stays on the ready list (level-triggered).
    pub(super) fn reported(&self) -> bool {
        let mut interest = self.interest.lock();
        if interest.flags.contains(InterestFlags::ONESHOT) {
            interest.events = EventMask::empty();
            return false;
        }
        !interest.flags.contains(InterestFlags::EDGE)
    }

    /// As /proc/PID/fdinfo shows it (proc_pid_fdinfo(5)).
    pub(super) fn fdinfo_line(&self) -> String {
        let interest = *self.interest.lock();
        let events = interest.events.bits() | interest.flags.bits();
        let (pos, meta) = match self.file() {
            Some(file) => (file.position(), file.metadata().ok()),
            None => (0, None),
        };
        let (ino, dev) = meta.map_or((0, 0), |meta| (meta.ino, meta.dev));
        format!(
            "tfd: {:8} events: {events:8x} data: {:16x}  pos:{pos} ino:{ino:x} sdev:{dev:x}\n",
            self.fd.0, interest.data
        )
    }
}

impl Notify for Item {
    fn notify(&self, events: EventMask) {
        if !self.wanted().intersects(events) || self.removed.load(Ordering::SeqCst) {
            return;
        }
        if let (Some(set), Some(me)) = (self.set.upgrade(), self.me.upgrade()) {
            set.push_ready(&me);
        }
    }

    fn is_exclusive(&self) -> bool {
        self.interest.lock().flags.contains(InterestFlags::EXCLUSIVE)
    }

    /// Where the event is not wanted, or nobody waits for the set now, the next set must hear of it (`ep_poll_callback`).
    fn notify_exclusive(&self, events: EventMask) -> bool {
        let is_waited_for = self.wanted().intersects(events)
            && self.set.upgrade().is_some_and(|set| set.has_waiters());
        self.notify(events);
        is_waited_for
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item(fd {})", self.fd.0)
    }
}
