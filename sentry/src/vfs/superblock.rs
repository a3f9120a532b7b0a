//! A mounted file system and the names cached of it (`struct super_block`).

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use ranked_sync::Mutex;
use smallvec::SmallVec;

use super::{
    AccessMask, Dentry, DirOps, FileSystem, Inode, Intent,
    dentry::{Cached, DirGuard},
    file_locks::LockTable,
    policed::Policed,
};
use crate::{Errno, SysError, SysResult, lock_order};

/// How many dentries of one file system are kept though no one uses them.
const RING_SIZE: usize = 16 << 10;
/// How far the hand goes in search of a dentry to drop.
const SEARCH_STEPS: usize = 64;

/// What a walk knows of the names that it will look up below the present one.
pub(super) struct Ahead<'a> {
    pub(super) names: &'a dyn Fn() -> Vec<Vec<u8>>,
    /// What the last is looked up for.
    pub(super) intent: Intent,
}

impl Ahead<'_> {
    /// Nothing.
    pub(super) const UNKNOWN: Ahead<'static> =
        Ahead { names: &Vec::<Vec<u8>>::new, intent: Intent::Look };
}

/// A file system with its root dentry; shared by all mounts that show (parts of) it.
pub struct Superblock {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
    caches_names: bool,
    asks_ahead: bool,
    ring: Mutex<lock_order::Leaf, Ring>,
    /// `s_vfs_rename_mutex`: directories move one at a time.
    pub(super) rename: Mutex<lock_order::Rename, ()>,
    locks: LockTable,
    policed: OnceLock<Policed>,
}

/// The dentries that are kept; a hand goes round and drops those not used since it last came by.
#[derive(Default)]
struct Ring {
    slots: Vec<Option<Arc<Dentry>>>,
    free: Vec<usize>,
    hand: usize,
}

impl Superblock {
    pub fn new(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let root = Dentry::root(fs.root());
        Arc::new(Self {
            caches_names: fs.caches_names(),
            asks_ahead: fs.asks_ahead(),
            fs,
            root,
            ring: Mutex::default(),
            rename: Mutex::new(()),
            locks: LockTable::default(),
            policed: OnceLock::new(),
        })
    }

    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    pub(super) fn locks(&self) -> &LockTable {
        &self.locks
    }

    /// The rules that its names are under.
    #[inline]
    pub(super) fn policed(&self) -> Option<&Policed> {
        self.policed.get()
    }

    /// Puts its names under rules, once.
    pub(super) fn set_policed(&self, policed: Policed) {
        let _ = self.policed.set(policed);
    }

    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// The entry `name` of `dir`, from the cache or the file system. `None`: there is none.
    /// `cached_only`: `EAGAIN` rather than asking the file system (RESOLVE_CACHED).
    pub(super) fn lookup(
        &self,
        dir: &Arc<Dentry>,
        name: &[u8],
        ahead: &Ahead<'_>,
        cached_only: bool,
    ) -> SysResult<Option<Arc<Dentry>>> {
        if let Some(answer) = self.lookup_cached(dir, name)? {
            return Ok(answer);
        }
        if cached_only {
            return Err(Errno::EAGAIN.into());
        }
        let guard = dir.lock_names().ok_or(Errno::ENOTDIR)?;
        self.lookup_locked(dir, &guard, name, ahead)
    }

    /// As [`Self::lookup`], by a caller who has locked the directory's names.
    pub(super) fn lookup_locked(
        &self,
        dir: &Arc<Dentry>,
        _guard: &DirGuard<'_>,
        name: &[u8],
        ahead: &Ahead<'_>,
    ) -> SysResult<Option<Arc<Dentry>>> {
        if let Some(answer) = self.lookup_cached(dir, name)? {
            return Ok(answer);
        }
        let ops = dir.dir_ops().ok_or(Errno::ENOTDIR)?;
        if dir.is_unlinked() {
            return Ok(None);
        }
        // A walk that asks ahead has asked.
        if !self.asks_ahead {
            let below = (ahead.names)();
            if !below.is_empty() {
                prefetch(ops, name, &below, ahead.intent);
            }
        }
        match ops.lookup(name) {
            Ok(inode) => Ok(Some(self.adopt(dir, name, inode))),
            Err(SysError::Errno(Errno::ENOENT)) => {
                if !ops.missing_is_cheap() {
                    let negative = dir.insert_child(name, None);
                    self.keep(negative);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Must a walk ask for its names before it looks them up?
    pub(super) fn asks_ahead(&self) -> bool {
        self.asks_ahead
    }

    /// Asks for `name` in `dir` and the names below it, by a walk that will look them up. How many are asked for.
    pub(super) fn ask_ahead(&self, dir: &Dentry, name: &[u8], ahead: &Ahead<'_>) -> usize {
        let Some(ops) = dir.dir_ops() else { return 0 };
        let below = (ahead.names)();
        prefetch(ops, name, &below, ahead.intent);
        below.len() + 1
    }

    /// As [`Self::lookup_locked`] before a name is made, which the caller has found to be free. Where the file
    /// system says `EEXIST` itself and would have to be asked again, what is remembered is good enough.
    pub(super) fn lookup_to_make(
        &self,
        dir: &Arc<Dentry>,
        guard: &DirGuard<'_>,
        name: &[u8],
    ) -> SysResult<Option<Arc<Dentry>>> {
        if self.asks_ahead && !matches!(dir.cached(name), Cached::Known(_)) {
            return Ok(None);
        }
        self.lookup_locked(dir, guard, name, &Ahead::UNKNOWN)
    }

    /// From the cache: `None` when the file system has to be asked.
    fn lookup_cached(
        &self,
        dir: &Arc<Dentry>,
        name: &[u8],
    ) -> SysResult<Option<Option<Arc<Dentry>>>> {
        let cached = dir.cached(name);
        if self.caches_names {
            return Ok(match cached {
                Cached::Known(dentry) => Some(Some(dentry)),
                Cached::Missing => Some(None),
                Cached::Unknown => None,
            });
        }
        let ops = dir.dir_ops().ok_or(Errno::ENOTDIR)?;
        Ok(match cached {
            // What something is mounted on stays.
            Cached::Known(dentry)
                if dentry.may_be_mountpoint() || ops.revalidate(name, Some(dentry.inode())) =>
            {
                Some(Some(dentry))
            }
            Cached::Missing if ops.revalidate(name, None) => Some(None),
            _ => None,
        })
    }

    /// The dentry of an inode that the file system just gave for `name`: the one there is, if it
    /// is the same file.
    fn adopt(&self, dir: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        if let Cached::Known(dentry) = dir.cached(name)
            && Arc::ptr_eq(dentry.inode(), &inode)
        {
            return dentry;
        }
        let child = dir.insert_child(name, Some(inode));
        self.keep(child.clone());
        child
    }

    /// A name that was just made.
    pub(super) fn add(&self, dir: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let child = dir.insert_child(name, Some(inode));
        self.keep(child.clone());
        child
    }

    /// A name that is gone. The dentry stays with who uses it.
    pub(super) fn remove(&self, dentry: &Arc<Dentry>) {
        dentry.set_unlinked();
        let (parent, name) = dentry.parent_and_name();
        if let Some(parent) = parent
            && matches!(parent.cached(&name), Cached::Known(ref at) if Arc::ptr_eq(at, dentry))
        {
            parent.forget_child(&name);
        }
        self.forget(dentry);
    }

    /// Takes a dentry out of the ring, so that it goes when its last user does.
    pub(super) fn forget(&self, dentry: &Arc<Dentry>) {
        let mut ring = self.ring.lock();
        if let Some(slot) = dentry.slot() {
            let kept = ring.slots.get_mut(slot).and_then(Option::take);
            ring.free.push(slot);
            dentry.set_slot(None);
            drop(ring);
            drop(kept);
        }
    }

    /// Keeps a dentry for a while though no one uses it.
    fn keep(&self, dentry: Arc<Dentry>) {
        let dropped = self.ring.lock().put(dentry);
        // Without the lock: an inode's end may be a long story.
        drop(dropped);
    }

    /// Search permission.
    pub(super) fn may_search(dir: &Dentry, cred: &crate::kernel::Credentials) -> SysResult<()> {
        dir.inode().check_access(cred, AccessMask::EXEC)
    }
}

fn prefetch(ops: &dyn DirOps, name: &[u8], below: &[Vec<u8>], intent: Intent) {
    let names: SmallVec<[&[u8]; 8]> =
        std::iter::once(name).chain(below.iter().map(Vec::as_slice)).collect();
    ops.prefetch(&names, intent);
}

impl Ring {
    fn put(&mut self, dentry: Arc<Dentry>) -> Option<Arc<Dentry>> {
        if let Some(slot) = self.free.pop()
            && let Some(place) = self.slots.get_mut(slot)
        {
            dentry.set_slot(Some(slot));
            return place.replace(dentry);
        }
        if self.slots.len() >= RING_SIZE {
            for _ in 0..SEARCH_STEPS {
                self.hand = (self.hand + 1) % self.slots.len();
                let Some(place) = self.slots.get_mut(self.hand) else { break };
                let used = place
                    .as_ref()
                    .is_some_and(|old| Arc::strong_count(old) > 1 || old.take_referenced());
                if !used {
                    dentry.set_slot(Some(self.hand));
                    let old = place.replace(dentry);
                    if let Some(old) = &old {
                        old.set_slot(None);
                    }
                    return old;
                }
            }
        }
        // All are in use (and so bounded by what uses them).
        dentry.set_slot(Some(self.slots.len()));
        self.slots.push(Some(dentry));
        None
    }
}

impl fmt::Debug for Superblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Superblock({})", self.fs.type_name())
    }
}
