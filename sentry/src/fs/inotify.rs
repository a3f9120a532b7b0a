//! inotify(7): a queue of what happened to watched files.
//!
//! A watch sits on a dentry (and keeps it in the cache), so that an event costs nothing where no one
//! watches, and no table is searched. Divergence: events through another hard link of a watched file
//! are not reported, and a name of a shared host tree that is replaced from outside loses its watch.

mod queue;

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use ranked_sync::Mutex;

use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    lock_order,
    user::{UserAddr, UserMemory},
    vfs::{Dentry, FileDescription, FileOps, IoDst, Watcher},
    wait::{EventMask, PollTable, WaitQueue},
};
use queue::{Event, EventQueue};

/// The bits of a mask that name events.
pub const ALL_EVENTS: u32 = libc::IN_ALL_EVENTS;
/// The bits of a mask that inotify_add_watch(2) understands.
pub const VALID_BITS: u32 = ALL_EVENTS
    | libc::IN_ONLYDIR
    | libc::IN_DONT_FOLLOW
    | libc::IN_EXCL_UNLINK
    | libc::IN_MASK_CREATE
    | libc::IN_MASK_ADD
    | libc::IN_ONESHOT
    | libc::IN_UNMOUNT
    | libc::IN_Q_OVERFLOW
    | libc::IN_IGNORED
    | libc::IN_ISDIR;

/// `fs.inotify.max_user_watches`, for each instance.
const MAX_WATCHES: usize = 65_536;

/// An inotify instance.
pub struct Inotify {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<lock_order::Inotify, State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    events: EventQueue,
    watches: BTreeMap<i32, Watched>,
    last: i32,
}

struct Watched {
    dentry: Arc<Dentry>,
    watch: Arc<Watch>,
}

/// A dentry's side of a watch.
pub struct Watch {
    instance: Weak<Shared>,
    descriptor: i32,
    mask: AtomicU32,
}

impl Watcher for Watch {
    fn tell(&self, event: u32, cookie: u32, name: Option<&[u8]>, unlinked: bool) {
        let mask = self.mask.load(Ordering::Relaxed);
        let Some(instance) = self.instance.upgrade() else { return };
        if unlinked && name.is_some() && mask & libc::IN_EXCL_UNLINK != 0 {
            return;
        }
        if event & mask & ALL_EVENTS != 0 {
            let shown = event & (ALL_EVENTS | libc::IN_ISDIR);
            instance.push(Event::new(self.descriptor, shown, cookie, name));
            if mask & libc::IN_ONESHOT != 0 {
                instance.remove(self.descriptor);
            }
        }
        if event & libc::IN_DELETE_SELF != 0 {
            instance.remove(self.descriptor);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Shared {
    fn push(&self, event: Event) {
        if self.state.lock().events.push(event) {
            self.queue.wake(EventMask::READABLE);
        }
    }

    /// Ends a watch; IN_IGNORED follows. False when there is none of that number.
    fn remove(&self, descriptor: i32) -> bool {
        let Some(watched) = self.state.lock().watches.remove(&descriptor) else { return false };
        watched.dentry.watches().remove(&*watched.watch);
        self.push(Event::new(descriptor, libc::IN_IGNORED, 0, None));
        true
    }
}

impl Inotify {
    pub fn new() -> Self {
        let shared = Shared { state: Mutex::default(), queue: WaitQueue::new() };
        Self { shared: Arc::new(shared) }
    }

    /// inotify_add_watch(2): the watch's number. `mask` was checked.
    pub fn add_watch(&self, dentry: &Arc<Dentry>, mask: u32) -> SysResult<i32> {
        let kept = mask & (ALL_EVENTS | libc::IN_EXCL_UNLINK | libc::IN_ONESHOT);
        let mut state = self.shared.state.lock();
        let known = state.watches.values().find(|known| Arc::ptr_eq(&known.dentry, dentry));
        if let Some(known) = known {
            if mask & libc::IN_MASK_CREATE != 0 {
                return err!(EEXIST);
            }
            if mask & libc::IN_MASK_ADD != 0 {
                known.watch.mask.fetch_or(kept, Ordering::Relaxed);
            } else {
                known.watch.mask.store(kept, Ordering::Relaxed);
            }
            return Ok(known.watch.descriptor);
        }
        if state.watches.len() >= MAX_WATCHES {
            return err!(ENOSPC);
        }
        state.last = state.last.checked_add(1).ok_or(Errno::ENOSPC)?;
        let descriptor = state.last;
        let instance = Arc::downgrade(&self.shared);
        let watch = Arc::new(Watch { instance, descriptor, mask: AtomicU32::new(kept) });
        state.watches.insert(descriptor, Watched { dentry: dentry.clone(), watch: watch.clone() });
        drop(state);
        dentry.watches().add(watch);
        Ok(descriptor)
    }

    /// inotify_rm_watch(2).
    pub fn remove_watch(&self, descriptor: i32) -> SysResult<()> {
        if self.shared.remove(descriptor) { Ok(()) } else { err!(EINVAL) }
    }
}

impl Default for Inotify {
    fn default() -> Self {
        Self::new()
    }
}

impl FileOps for Inotify {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let mut total = 0;
        loop {
            let next = self.shared.state.lock().events.take_if_fits(dst.len());
            match next {
                Ok(Some(event)) => {
                    let bytes = event.to_bytes();
                    if dst.put(&bytes)? != bytes.len() {
                        return err!(EFAULT);
                    }
                    total += bytes.len();
                }
                Ok(None) if total == 0 => return err!(EAGAIN),
                // The buffer is too small even for the first.
                Err(()) if total == 0 => return err!(EINVAL),
                Ok(None) | Err(()) => return Ok(total),
            }
        }
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        // What a file is may have to be asked of the file server, without the lock.
        let watched: Vec<(i32, u32, Arc<Dentry>)> = {
            let state = self.shared.state.lock();
            let all = state.watches.iter();
            let mask = |watched: &Watched| watched.watch.mask.load(Ordering::Relaxed);
            all.map(|(wd, watched)| (*wd, mask(watched), watched.dentry.clone())).collect()
        };
        let line = |(wd, mask, dentry): (i32, u32, Arc<Dentry>)| {
            let meta = dentry.inode().metadata().ok();
            let (ino, dev) = meta.map_or((0, 0), |meta| (meta.ino, meta.dev));
            let dev = libc::major(dev) << 20 | libc::minor(dev);
            format!("inotify wd:{wd:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0\n")
        };
        watched.into_iter().map(line).collect()
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.shared.queue);
        if self.shared.state.lock().events.is_empty() {
            EventMask::empty()
        } else {
            EventMask::READABLE
        }
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        if request != libc::FIONREAD as u32 {
            return err!(ENOTTY);
        }
        let bytes = i32::try_from(self.shared.state.lock().events.bytes()).unwrap_or(i32::MAX);
        task.mm().copy_out(arg, &bytes.to_ne_bytes())?;
        Ok(0)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = std::mem::take(&mut self.shared.state.lock().watches);
        for watched in watches.into_values() {
            watched.dentry.watches().remove(&*watched.watch);
        }
    }
}

impl fmt::Debug for Inotify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inotify")
    }
}
