//! epoll(7) (`fs/eventpoll.c`).
//!
//! An [`EpollSet`] has an interest list, keyed by file description and descriptor, and a ready
//! list. Each [`Item`] is registered with the wait queues of its file; an event puts it on
//! the ready list, and epoll_wait(2) looks only there, so its cost does not depend on how many
//! files are watched. An item leaves the set when its description goes away.
//!
//! # Lock order
//! `EpollNesting`, `EpollScan` (outer set before inner; cycles are refused), `Epoll`. Files are
//! polled with only the first two held. `EpollReady` is taken by whoever wakes a watched file.

mod item;
mod nesting;

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Weak},
};

use linux_abi::{Errno, event::EpollEvent};
use ranked_sync::Mutex;
use smallvec::SmallVec;

use self::item::Item;
pub use self::item::{Interest, InterestFlags};
use crate::{
    SysResult, err,
    kernel::CurrentTask,
    lock_order,
    user::Fd,
    vfs::{CloseWatcher, FileDescription, FileOps},
    wait::{EventMask, Notify, PollTable, WaitQueue},
};

/// Items one set may have. Linux bounds them per user, by memory.
const MAX_ITEMS: usize = 1 << 18;

/// Events collected before they are copied out.
pub type EventBatch = SmallVec<[EpollEvent; 32]>;

/// An open epoll instance.
pub struct Epoll(Arc<EpollSet>);

/// What an epoll instance watches. Shared with its items and with sets that watch it.
pub struct EpollSet {
    /// One scan of the ready list at a time.
    scan: Mutex<lock_order::EpollScan, ()>,
    /// By description id, then descriptor.
    items: Mutex<lock_order::Epoll, BTreeMap<(u64, i32), Arc<Item>>>,
    ready: Mutex<lock_order::EpollReady, VecDeque<Arc<Item>>>,
    queue: WaitQueue,
    /// The sets that watch this one, for the depth of nesting.
    parents: Mutex<lock_order::Leaf, Vec<Weak<EpollSet>>>,
}

impl Epoll {
    /// Watching nothing.
    #[expect(clippy::new_without_default, reason = "an open file, not a value")]
    pub fn new() -> Self {
        Self(Arc::new(EpollSet {
            scan: Mutex::new(()),
            items: Mutex::default(),
            ready: Mutex::default(),
            queue: WaitQueue::new(),
            parents: Mutex::default(),
        }))
    }

    /// The set of an epoll descriptor; `EINVAL` for other files.
    pub fn of(file: &FileDescription) -> SysResult<&Arc<EpollSet>> {
        Ok(&file.ops_as::<Self>().ok_or(Errno::EINVAL)?.0)
    }
}

impl EpollSet {
    /// EPOLL_CTL_ADD. `EEXIST`, `ENOSPC`, and `ELOOP` when sets would be nested in a circle or too deep.
    pub fn add(
        self: &Arc<Self>,
        task: &CurrentTask,
        fd: Fd,
        file: &Arc<FileDescription>,
        interest: Interest,
    ) -> SysResult<()> {
        let Some(inner) = file.ops_as::<Epoll>() else {
            return self.insert(fd, file, interest);
        };
        let _nesting = task.kernel().epoll_nesting.lock();
        nesting::check(self, &inner.0)?;
        self.insert(fd, file, interest)?;
        inner.0.parents.lock().push(Arc::downgrade(self));
        Ok(())
    }

    fn insert(
        self: &Arc<Self>,
        fd: Fd,
        file: &Arc<FileDescription>,
        interest: Interest,
    ) -> SysResult<()> {
        let item = Item::new(Arc::downgrade(self), file, fd, interest);
        {
            let mut items = self.items.lock();
            if items.contains_key(&item.key()) {
                return err!(EEXIST);
            }
            if items.len() >= MAX_ITEMS {
                return err!(ENOSPC);
            }
            items.insert(item.key(), item.clone());
        }
        file.watch_close(self.watcher());
        if item.register(file).intersects(item.wanted()) {
            self.push_ready(&item);
        }
        Ok(())
    }

    /// EPOLL_CTL_MOD. `ENOENT`; `EINVAL` for an exclusive item.
    pub fn modify(&self, fd: Fd, file: &Arc<FileDescription>, interest: Interest) -> SysResult<()> {
        let item = self.items.lock().get(&(file.id(), fd.0)).cloned().ok_or(Errno::ENOENT)?;
        if item.is_exclusive() {
            return err!(EINVAL);
        }
        item.set_interest(interest);
        if item.poll(file).intersects(item.wanted()) {
            self.push_ready(&item);
        }
        Ok(())
    }

    /// EPOLL_CTL_DEL. `ENOENT`.
    pub fn remove(self: &Arc<Self>, fd: Fd, file: &Arc<FileDescription>) -> SysResult<()> {
        let item = self.items.lock().remove(&(file.id(), fd.0)).ok_or(Errno::ENOENT)?;
        file.unwatch_close(&self.watcher());
        if let Some(inner) = file.ops_as::<Epoll>() {
            inner.0.forget_parent(self);
        }
        self.retire(&item);
        Ok(())
    }

    fn watcher(self: &Arc<Self>) -> Weak<dyn CloseWatcher> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    fn forget_parent(&self, parent: &Arc<Self>) {
        let mut parents = self.parents.lock();
        if let Some(at) = parents.iter().position(|other| other.as_ptr() == Arc::as_ptr(parent)) {
            parents.swap_remove(at);
        }
    }

    /// The item is in the set no more: no event may find it.
    fn retire(&self, item: &Arc<Item>) {
        item.unregister();
        if item.is_queued() {
            self.ready.lock().retain(|other| !Arc::ptr_eq(other, item));
        }
    }

    /// Does anybody wait for it?
    fn has_waiters(&self) -> bool {
        self.queue.has_waiters()
    }

    /// Puts the item on the ready list, unless it is there, and wakes who waits for the set.
    fn push_ready(&self, item: &Arc<Item>) {
        if !item.mark_queued() {
            self.ready.lock().push_back(item.clone());
        }
        self.queue.wake(EventMask::READABLE);
    }

    /// Takes up to `max` events. Empty when nothing is ready.
    pub fn take_events(&self, max: usize) -> EventBatch {
        let mut events = EventBatch::new();
        let mut left = self.ready.lock().len();
        if left == 0 {
            return events;
        }
        let scan = self.scan.lock_nested();
        while left > 0 && events.len() < max {
            left -= 1;
            let Some(item) = self.ready.lock().pop_front() else { break };
            // Before the file is asked: an event from here on queues the item again.
            item.clear_queued();
            let Some(file) = item.file() else { continue };
            let happened = item.poll(&file) & item.wanted();
            if happened.is_empty() {
                continue;
            }
            events.push(EpollEvent::new(happened.bits(), item.data()));
            if item.reported() && !item.mark_queued() {
                // Level-triggered: ready until seen not to be.
                self.ready.lock().push_back(item);
            }
        }
        drop(scan);
        // Others who came while the list was empty for a moment.
        if self.queue.has_waiters() && !self.ready.lock().is_empty() {
            self.queue.wake(EventMask::READABLE);
        }
        events
    }

    /// Is any item ready? Drops from the ready list those that are not.
    fn has_events(&self) -> bool {
        let _scan = self.scan.lock_nested();
        let mut left = self.ready.lock().len();
        while left > 0 {
            left -= 1;
            let Some(item) = self.ready.lock().pop_front() else { break };
            item.clear_queued();
            let Some(file) = item.file() else { continue };
            if item.poll(&file).intersects(item.wanted()) {
                if !item.mark_queued() {
                    self.ready.lock().push_front(item);
                }
                return true;
            }
        }
        false
    }

    /// Waiters for events.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }
}

impl CloseWatcher for EpollSet {
    fn description_closed(&self, id: u64) {
        loop {
            let item = {
                let mut items = self.items.lock();
                let key = items.range((id, i32::MIN)..=(id, i32::MAX)).next().map(|(key, _)| *key);
                key.and_then(|key| items.remove(&key))
            };
            let Some(item) = item else { break };
            self.retire(&item);
        }
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        let items = std::mem::take(&mut *self.0.items.lock());
        for item in items.values() {
            let file = item.file();
            item.unregister();
            if let Some(file) = file {
                file.unwatch_close(&self.0.watcher());
                if let Some(inner) = file.ops_as::<Self>() {
                    inner.0.forget_parent(&self.0);
                }
            }
        }
        // The ready list holds its items, which hold the set only weakly.
        let ready = std::mem::take(&mut *self.0.ready.lock());
        drop(ready);
    }
}

impl FileOps for Epoll {
    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.0.queue);
        if self.0.has_events() { EventMask::READABLE } else { EventMask::empty() }
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        let items: Vec<_> = self.0.items.lock().values().cloned().collect();
        items.iter().map(|item| item.fdinfo_line()).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Epoll")
    }
}
