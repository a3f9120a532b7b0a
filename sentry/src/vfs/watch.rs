//! Who is to hear of changes to a dentry: inotify's watches and directory notices.

use std::{fmt, sync::Arc};

use ranked_sync::Mutex;
use smallvec::SmallVec;

use crate::lock_order;

/// Hears of changes to one dentry.
pub trait Watcher: Send + Sync {
    /// Something happened: to the watched file itself when there is no `name`, else to its entry of
    /// that name. `mask` has the bits of inotify(7), and [`MOVED_WITHIN`]. `unlinked`: the entry has no
    /// name any more.
    fn tell(&self, mask: u32, cookie: u32, name: Option<&[u8]>, unlinked: bool);

    /// For one that wants to find its own again.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// With `IN_MOVED_FROM`: the entry stays in this directory (`FS_RENAME`). No guest sees this bit.
pub(super) const MOVED_WITHIN: u32 = 0x1000_0000;

/// The watchers of one dentry.
#[derive(Default)]
pub struct WatchList(Mutex<lock_order::Inotify, Vec<Arc<dyn Watcher>>>);

impl WatchList {
    /// As they are now: watchers are told without the lock.
    pub fn all(&self) -> SmallVec<[Arc<dyn Watcher>; 4]> {
        self.0.lock().iter().cloned().collect()
    }

    pub fn add(&self, watcher: Arc<dyn Watcher>) {
        self.0.lock().push(watcher);
    }

    /// Takes that one out.
    pub fn remove(&self, watcher: &dyn Watcher) {
        self.0.lock().retain(|known| !std::ptr::addr_eq(Arc::as_ptr(known), watcher));
    }

    /// Tells all of them; see [`Watcher::tell`].
    pub fn tell(&self, mask: u32, cookie: u32, name: Option<&[u8]>, unlinked: bool) {
        for watcher in self.all() {
            watcher.tell(mask, cookie, name, unlinked);
        }
    }
}

impl fmt::Debug for WatchList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchList")
    }
}
