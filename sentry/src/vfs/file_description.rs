//! File descriptions: what descriptors point at (open(2), "open file description").

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use bitflags::bitflags;
use ranked_sync::Mutex;

use super::{
    FileLocks, FileOps, LockOwner, Metadata, VfsPath,
    async_io::{AsyncIo, OWNER_IS_THREAD},
    file_locks::LockWait,
    notify::{FsEvent, notify_file},
};
use crate::{
    Errno, SysResult,
    kernel::{Credentials, CurrentTask},
    lock_order,
};

bitflags! {
    /// The flags of open(2) that stay with a description; F_SETFL changes some.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct StatusFlags: u32 {
        const APPEND = libc::O_APPEND as u32;
        const NONBLOCK = libc::O_NONBLOCK as u32;
        const DSYNC = libc::O_DSYNC as u32;
        const SYNC = libc::O_SYNC as u32;
        const ASYNC = libc::O_ASYNC as u32;
        const DIRECT = libc::O_DIRECT as u32;
        const NOATIME = libc::O_NOATIME as u32;
        const PATH = libc::O_PATH as u32;
        const LARGEFILE = 0o100000;
        const DIRECTORY = libc::O_DIRECTORY as u32;
        const NOFOLLOW = libc::O_NOFOLLOW as u32;
        const TMPFILE = 0o20000000;
    }
}

impl StatusFlags {
    /// Those F_SETFL may change.
    pub const SETTABLE: Self = Self::APPEND
        .union(Self::NONBLOCK)
        .union(Self::ASYNC)
        .union(Self::DIRECT)
        .union(Self::NOATIME);
}

/// An open file. Shared by descriptors made by dup(2), fork(2) and SCM_RIGHTS.
pub struct FileDescription {
    ops: Box<dyn FileOps>,
    path: VfsPath,
    /// O_RDONLY, O_WRONLY or O_RDWR, as opened.
    access: u32,
    flags: AtomicU32,
    /// The position; the lock is held for the whole of a read or write that uses it, so that
    /// two of them never share a position (`f_pos_lock` in Linux). Streams do not take it.
    pub offset: Mutex<lock_order::FileOffset, u64>,
    /// Who opened it: what later checks use.
    cred: Arc<Credentials>,
    /// Unique in the sandbox: for epoll, locks and /proc.
    id: u64,
    /// F_SETOWN, F_SETSIG: pid (negative: group) and signal, packed as owner << 32 | signal.
    owner: AtomicU64,
    /// Who wants to hear that the last reference is gone.
    close_watchers: Mutex<lock_order::Leaf, Vec<Weak<dyn CloseWatcher>>>,
    /// Set while O_ASYNC is.
    async_io: Mutex<lock_order::Leaf, Option<Box<AsyncIo>>>,
    /// What it holds of its file's count of writers.
    hold: AtomicU8,
    /// The locks of its file, once it was used to lock.
    locks: OnceLock<Arc<FileLocks>>,
}

/// Told when a description goes away: epoll sets that watch it. Called with no lock held.
pub trait CloseWatcher: Send + Sync {
    /// The description of that [`FileDescription::id`] is being dropped.
    fn description_closed(&self, id: u64);
}

/// Descriptions of this process, which is one sandbox.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl Drop for FileDescription {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        for watcher in std::mem::take(self.close_watchers.get_mut()) {
            if let Some(watcher) = watcher.upgrade() {
                watcher.description_closed(self.id);
            }
        }
        self.allow_write_access();
        if let Some(locks) = self.locks.get() {
            locks.release_description(self.id);
        }
        if !self.is_path() {
            let event =
                if self.is_writable() { FsEvent::CloseWrite } else { FsEvent::CloseNoWrite };
            notify_file(self, event);
        }
    }
}

impl FileDescription {
    /// `open_flags`: as given to open(2), access mode and status flags are taken from them.
    pub fn new(
        ops: Box<dyn FileOps>,
        path: VfsPath,
        open_flags: u32,
        cred: Arc<Credentials>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        COUNT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            ops,
            path,
            access: open_flags & libc::O_ACCMODE as u32,
            flags: AtomicU32::new(StatusFlags::from_bits_truncate(open_flags).bits()),
            offset: Mutex::new(0),
            cred,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            owner: AtomicU64::new(0),
            close_watchers: Mutex::new(Vec::new()),
            async_io: Mutex::new(None),
            hold: AtomicU8::new(HOLDS_NOTHING),
            locks: OnceLock::new(),
        })
    }

    /// How many there are (`nr_files`).
    pub fn count() -> u64 {
        COUNT.load(Ordering::Relaxed)
    }

    pub fn ops(&self) -> &dyn FileOps {
        &*self.ops
    }

    /// The operations as a concrete type: `file.ops_as::<Pipe>()`.
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        self.ops.as_any().downcast_ref()
    }

    pub fn path(&self) -> &VfsPath {
        &self.path
    }

    pub fn cred(&self) -> &Arc<Credentials> {
        &self.cred
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn flags(&self) -> StatusFlags {
        StatusFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces those flags which F_SETFL may change.
    pub fn set_settable_flags(&self, new: StatusFlags) {
        let keep = self.flags() - StatusFlags::SETTABLE;
        self.flags.store((keep | (new & StatusFlags::SETTABLE)).bits(), Ordering::Relaxed);
    }

    /// Sets or clears one flag.
    pub fn set_flag(&self, flag: StatusFlags, on: bool) {
        if on {
            self.flags.fetch_or(flag.bits(), Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag.bits(), Ordering::Relaxed);
        }
    }

    /// Access mode and status flags, as F_GETFL reports them.
    pub fn open_flags(&self) -> u32 {
        self.access | self.flags().bits()
    }

    pub fn is_readable(&self) -> bool {
        !self.is_path() && self.access != libc::O_WRONLY as u32
    }

    pub fn is_writable(&self) -> bool {
        !self.is_path() && self.access != libc::O_RDONLY as u32
    }

    /// Opened with O_PATH: a place, not a file.
    pub fn is_path(&self) -> bool {
        self.flags().contains(StatusFlags::PATH)
    }

    pub fn is_nonblocking(&self) -> bool {
        self.flags().contains(StatusFlags::NONBLOCK)
    }

    pub fn metadata(&self) -> SysResult<Metadata> {
        self.path.inode().metadata()
    }

    /// `watcher` hears when this description is dropped; once per call, so add it once.
    pub fn watch_close(&self, watcher: Weak<dyn CloseWatcher>) {
        let mut watchers = self.close_watchers.lock();
        // Sets that are gone leave their entry behind: sweep them when the list would grow.
        if watchers.len() == watchers.capacity() {
            watchers.retain(|watcher| watcher.strong_count() > 0);
        }
        watchers.push(watcher);
    }

    /// `watcher` is no longer interested. Compared by identity.
    pub fn unwatch_close(&self, watcher: &Weak<dyn CloseWatcher>) {
        let mut watchers = self.close_watchers.lock();
        if let Some(at) = watchers.iter().position(|other| other.ptr_eq(watcher)) {
            watchers.swap_remove(at);
        }
    }

    /// The position, for others to look at; 0 while a call is using it. (Waiting could be waiting for oneself:
    /// for who reads its own fdinfo.)
    pub fn position(&self) -> u64 {
        self.offset.try_lock().map_or(0, |offset| *offset)
    }

    /// The locks of its file, for locking.
    pub fn locks(&self) -> SysResult<&Arc<FileLocks>> {
        if let Some(locks) = self.locks.get() {
            return Ok(locks);
        }
        let meta = self.metadata()?;
        let table = self.path.mount.superblock().locks();
        let locks = table.of((meta.dev, meta.ino), true).ok_or(Errno::ENOLCK)?;
        Ok(self.locks.get_or_init(|| locks))
    }

    /// `owner` is going to wait for `blocker` to unlock this file: `EDEADLK` if that would be for ever.
    pub fn begin_lock_wait(&self, owner: LockOwner, blocker: LockOwner) -> SysResult<LockWait<'_>> {
        self.path.mount.superblock().locks().begin_wait(owner, blocker)
    }

    /// The process with this descriptor table closes it: its POSIX locks on the file go.
    pub(super) fn release_process_locks(&self, owner: LockOwner) {
        let Ok(meta) = self.metadata() else { return };
        if let Some(locks) = self.path.mount.superblock().locks().of((meta.dev, meta.ino), false) {
            // All of the file; freeing needs no room.
            let _ = locks.unlock(owner, 0, u64::MAX);
        }
    }

    /// Counts as a writer of its file from now on (`get_write_access`); `ETXTBSY` if it is being executed.
    pub(super) fn hold_write_access(&self) -> SysResult<()> {
        self.path.dentry.get_write_access()?;
        self.hold.store(HOLDS_WRITE_ACCESS, Ordering::Relaxed);
        Ok(())
    }

    /// Its file is a program that is going to run: nobody may write it while this description lives.
    /// `ETXTBSY` if somebody has it open for writing.
    pub(super) fn deny_write_access(&self) -> SysResult<()> {
        self.path.dentry.deny_write_access()?;
        self.hold.store(DENIES_WRITE_ACCESS, Ordering::Relaxed);
        Ok(())
    }

    /// Ends what [`Self::hold_write_access`] or opening for execution began.
    pub fn allow_write_access(&self) {
        match self.hold.swap(HOLDS_NOTHING, Ordering::Relaxed) {
            HOLDS_WRITE_ACCESS => self.path.dentry.put_write_access(),
            DENIES_WRITE_ACCESS => self.path.dentry.allow_write_access(),
            _ => {}
        }
    }

    /// F_SETOWN and F_SETSIG: process (negative: group) and signal.
    pub fn owner(&self) -> (i32, u32) {
        let packed = self.owner.load(Ordering::Relaxed);
        ((packed >> 32) as i32, packed as u32 & !OWNER_IS_THREAD)
    }

    /// Owner and signal, as [`Self::owner`] packs them.
    pub(super) fn owner_word(&self) -> u64 {
        self.owner.load(Ordering::Relaxed)
    }

    /// Is the owner a thread by itself (F_SETOWN_EX with F_OWNER_TID)?
    pub fn owner_is_thread(&self) -> bool {
        self.owner.load(Ordering::Relaxed) as u32 & OWNER_IS_THREAD != 0
    }

    pub fn set_owner(&self, pid: i32, signal: u32, is_thread: bool) {
        let low = if is_thread { signal | OWNER_IS_THREAD } else { signal };
        let word = (u64::from(pid as u32) << 32) | u64::from(low);
        self.owner.store(word, Ordering::Relaxed);
        if let Some(async_io) = &*self.async_io.lock() {
            async_io.set_owner(word);
        }
    }

    /// Sets or clears O_ASYNC: the owner gets a signal whenever the file becomes ready. Nothing happens where there are
    /// no such signals.
    pub fn set_async(&self, task: &CurrentTask, fd: i32, on: bool) {
        if on == self.flags().contains(StatusFlags::ASYNC) || !self.ops.signals_readiness() {
            return;
        }
        self.set_flag(StatusFlags::ASYNC, on);
        let new = on.then(|| {
            let owner = self.owner.load(Ordering::Relaxed);
            Box::new(AsyncIo::start(self, task.kernel().clone(), task.cred(), fd, owner))
        });
        let old = std::mem::replace(&mut *self.async_io.lock(), new);
        drop(old);
    }
}

/// What [`FileDescription::hold`] says.
const HOLDS_NOTHING: u8 = 0;
const HOLDS_WRITE_ACCESS: u8 = 1;
const DENIES_WRITE_ACCESS: u8 = 2;

impl fmt::Debug for FileDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDescription({} {:?})", self.id, self.ops)
    }
}
