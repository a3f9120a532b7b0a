//! Dentries: names, and what they stand for.
//!
//! A dentry holds its parent; a directory's dentry knows its children only weakly. What keeps a
//! child alive is who uses it, and the ring of its [`Superblock`](super::Superblock), which forgets
//! the ones not used lately. So there are no cycles, dropping a dentry takes no lock, and names
//! cost a bounded amount of memory.
//!
//! # Lock order
//! ```text
//! DirChange (one directory's names change, or are looked up in the file system)
//!   └ DentryChildren (the map)
//!       └ Leaf (name and parent; the ring)
//! ```

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
};

use ranked_sync::{Mutex, MutexGuard, RwLock};

use super::{
    DirOps, FileType, Inode, name_hash::NameHash, negative::NegativeInode, watch::WatchList,
};
use crate::{Errno, lock_order, policy::Verdict};

const UNLINKED: u32 = 1;
const REFERENCED: u32 = 2;
const NEGATIVE: u32 = 4;
const LINKABLE: u32 = 8;

/// Of a kept verdict; what remains counts moves, and lasts for centuries.
const VERDICT_BITS: u32 = 10;
const VERDICT_MASK: u16 = (1 << VERDICT_BITS) - 1;

/// In no ring.
const NO_SLOT: u32 = u32::MAX;

/// A name in a directory, cached. The root of a file system has an empty name and no parent.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    kind: Option<FileType>,
    place: RwLock<lock_order::Leaf, Place>,
    /// For directories.
    dir: Option<Box<Dir>>,
    flags: AtomicU32,
    /// How many mounts sit on it, in all namespaces.
    mounts: AtomicU32,
    /// Where it is in the ring of its superblock.
    slot: AtomicU32,
    /// Descriptions open for writing, or (negative) programs that run it (`i_writecount`). Kept per name: two
    /// names of one program do not know of each other.
    writers: AtomicI32,
    /// Made when inotify first watches it.
    watches: OnceLock<Box<WatchList>>,
    /// What rules come to for its path (low bits), and how many moves of names there had been when that was found.
    verdict: AtomicU64,
}

/// Where a dentry is.
#[derive(Clone)]
struct Place {
    parent: Option<Arc<Dentry>>,
    name: Arc<[u8]>,
}

#[derive(Default)]
struct Dir {
    change: Mutex<lock_order::DirChange, ()>,
    children: RwLock<lock_order::DentryChildren, Children>,
}

#[derive(Default)]
struct Children {
    by_name: HashMap<Arc<[u8]>, Weak<Dentry>, NameHash>,
    /// When the map has this many entries, those whose dentry is gone are swept out.
    sweep_at: usize,
}

/// What a directory's dentry knows of a name.
#[derive(Debug)]
pub(super) enum Cached {
    Known(Arc<Dentry>),
    /// It is known that there is no such entry.
    Missing,
    Unknown,
}

/// A directory's names do not change while it lives.
pub(super) type DirGuard<'a> = MutexGuard<'a, lock_order::DirChange, ()>;

impl Dentry {
    fn new(
        parent: Option<Arc<Self>>,
        name: Arc<[u8]>,
        inode: Arc<dyn Inode>,
        flags: u32,
    ) -> Arc<Self> {
        let dir = (flags & NEGATIVE == 0 && inode.as_dir().is_some()).then(Box::default);
        let kind = match &dir {
            Some(_) => Some(FileType::Directory),
            None => inode.kind(),
        };
        Arc::new(Self {
            inode,
            kind,
            place: RwLock::new(Place { parent, name }),
            dir,
            flags: AtomicU32::new(flags),
            mounts: AtomicU32::new(0),
            slot: AtomicU32::new(NO_SLOT),
            writers: AtomicI32::new(0),
            watches: OnceLock::new(),
            verdict: AtomicU64::new(0),
        })
    }

    /// The root of a file system.
    pub(super) fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::new(None, Arc::from(&b""[..]), inode, 0)
    }

    /// A dentry that belongs to no directory: pipes, sockets, memfds (`pipe:[17]`).
    pub fn anonymous(name: Vec<u8>, inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::new(None, name.into(), inode, 0)
    }

    /// A file that never had a name in `dir` (O_TMPFILE): `/dir/#17 (deleted)`.
    /// `linkable`: linkat(2) may give it one.
    pub(super) fn unnamed(
        dir: &Arc<Self>,
        name: Vec<u8>,
        inode: Arc<dyn Inode>,
        linkable: bool,
    ) -> Arc<Self> {
        let flags = if linkable { UNLINKED | LINKABLE } else { UNLINKED };
        Self::new(Some(dir.clone()), name.into(), inode, flags)
    }

    /// The verdict kept since the last of so many moves.
    pub(super) fn kept_verdict(&self, moves: u64) -> Option<Verdict> {
        let kept = self.verdict.load(Ordering::Relaxed);
        (kept >> VERDICT_BITS == moves).then(|| Verdict::from_bits(kept as u16 & VERDICT_MASK))
    }

    pub(super) fn keep_verdict(&self, moves: u64, verdict: Verdict) {
        let kept = moves << VERDICT_BITS | u64::from(verdict.to_bits());
        self.verdict.store(kept, Ordering::Relaxed);
    }

    /// Who watches it.
    pub fn watches(&self) -> &WatchList {
        self.watches.get_or_init(Box::default)
    }

    /// Who watches it, if it was ever watched.
    pub(super) fn watches_if_any(&self) -> Option<&WatchList> {
        self.watches.get().map(|watches| &**watches)
    }

    /// Was its directory ever watched?
    pub(super) fn parent_is_watched(&self) -> bool {
        self.place.read().parent.as_ref().is_some_and(|parent| parent.watches.get().is_some())
    }

    /// What it stands for.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The kind of file; fixed for an inode's life. `None` for anonymous inodes.
    pub fn kind(&self) -> Option<FileType> {
        self.kind
    }

    pub fn is_dir(&self) -> bool {
        self.dir.is_some()
    }

    pub fn is_symlink(&self) -> bool {
        self.kind == Some(FileType::Symlink)
    }

    /// The directory's operations; `None` for other files.
    pub fn dir_ops(&self) -> Option<&dyn DirOps> {
        self.dir.as_ref().and_then(|_| self.inode.as_dir())
    }

    /// Its name in its directory. Empty for the root of a file system.
    pub fn name(&self) -> Arc<[u8]> {
        self.place.read().name.clone()
    }

    /// The directory it is in (or was, once unlinked).
    pub fn parent(&self) -> Option<Arc<Self>> {
        self.place.read().parent.clone()
    }

    /// Both at one moment.
    pub fn parent_and_name(&self) -> (Option<Arc<Self>>, Arc<[u8]>) {
        let place = self.place.read().clone();
        (place.parent, place.name)
    }

    /// Its name was removed, or replaced by a rename: paths say `(deleted)`.
    pub fn is_unlinked(&self) -> bool {
        self.flag(UNLINKED)
    }

    pub(super) fn set_unlinked(&self) {
        self.flags.fetch_or(UNLINKED, Ordering::Relaxed);
    }

    /// Was it made by O_TMPFILE without O_EXCL?
    pub(super) fn is_linkable(&self) -> bool {
        self.flag(LINKABLE)
    }

    /// Says "no such entry"; never reached by a walk.
    pub(super) fn is_negative(&self) -> bool {
        self.flag(NEGATIVE)
    }

    fn flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Is it this directory or one below it? True for itself.
    pub(super) fn is_within(self: &Arc<Self>, ancestor: &Arc<Self>) -> bool {
        let mut at = Some(self.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, ancestor) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// May something be mounted on it, so that a walk has to look?
    pub(super) fn may_be_mountpoint(&self) -> bool {
        self.mounts.load(Ordering::Acquire) != 0
    }

    pub(super) fn add_mount(&self) {
        self.mounts.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn remove_mount(&self) {
        self.mounts.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a writer; `ETXTBSY` while it is being executed.
    pub(super) fn get_write_access(&self) -> Result<(), Errno> {
        self.count(|writers| (writers >= 0).then_some(writers.saturating_add(1)))
    }

    pub(super) fn put_write_access(&self) {
        let _ = self.count(|writers| Some(writers.saturating_sub(1)));
    }

    /// Keeps writers away; `ETXTBSY` while there are any.
    pub(super) fn deny_write_access(&self) -> Result<(), Errno> {
        self.count(|writers| (writers <= 0).then_some(writers.saturating_sub(1)))
    }

    pub(super) fn allow_write_access(&self) {
        let _ = self.count(|writers| Some(writers.saturating_add(1)));
    }

    fn count(&self, change: impl FnMut(i32) -> Option<i32>) -> Result<(), Errno> {
        let changed = self.writers.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        changed.map(drop).map_err(|_| Errno::ETXTBSY)
    }

    // The ring.

    pub(super) fn slot(&self) -> Option<usize> {
        let slot = self.slot.load(Ordering::Relaxed);
        (slot != NO_SLOT).then_some(slot as usize)
    }

    pub(super) fn set_slot(&self, slot: Option<usize>) {
        let slot = slot.and_then(|slot| u32::try_from(slot).ok()).unwrap_or(NO_SLOT);
        self.slot.store(slot, Ordering::Relaxed);
    }

    /// Was it used since this was asked last?
    pub(super) fn take_referenced(&self) -> bool {
        self.flags.fetch_and(!REFERENCED, Ordering::Relaxed) & REFERENCED != 0
    }

    fn touch(&self) {
        // Read first: a write would take the cache line from the other cores each time.
        if !self.flag(REFERENCED) {
            self.flags.fetch_or(REFERENCED, Ordering::Relaxed);
        }
    }

    // Children. On what is no directory, all of these find nothing.

    /// Keeps the names of this directory from changing.
    pub(super) fn lock_names(&self) -> Option<DirGuard<'_>> {
        self.dir.as_ref().map(|dir| dir.change.lock())
    }

    /// Two directories' names, for rename: an ancestor comes first, else the lower address. The
    /// caller holds the Rename lock, so the tree does not change meanwhile.
    pub(super) fn lock_two<'a>(
        a: &'a Arc<Self>,
        b: &'a Arc<Self>,
    ) -> Option<(DirGuard<'a>, Option<DirGuard<'a>>)> {
        let (first, second) = (a.dir.as_ref()?, b.dir.as_ref()?);
        if Arc::ptr_eq(a, b) {
            return Some((first.change.lock(), None));
        }
        let a_first = a.as_ptr_value() < b.as_ptr_value();
        let swap = if b.is_within(a) { false } else { a.is_within(b) || !a_first };
        let (first, second) = if swap { (second, first) } else { (first, second) };
        let one = first.change.lock();
        // Everyone who takes two holds Rename, so two such callers never meet.
        Some((one, Some(second.change.lock_nested())))
    }

    /// Identity, for maps keyed by dentry.
    pub(super) fn as_ptr_value(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).cast::<u8>().addr()
    }

    /// What is known of `name` without asking the file system.
    pub(super) fn cached(&self, name: &[u8]) -> Cached {
        let Some(dir) = &self.dir else { return Cached::Unknown };
        let found = dir.children.read().by_name.get(name).and_then(Weak::upgrade);
        match found {
            Some(dentry) => {
                dentry.touch();
                if dentry.is_negative() { Cached::Missing } else { Cached::Known(dentry) }
            }
            None => Cached::Unknown,
        }
    }

    /// Makes the dentry of `name`, replacing what was there; `inode` is `None` for "no such entry".
    /// The caller holds this directory's names.
    pub(super) fn insert_child(
        self: &Arc<Self>,
        name: &[u8],
        inode: Option<Arc<dyn Inode>>,
    ) -> Arc<Self> {
        let (inode, flags) = match inode {
            Some(inode) => (inode, 0),
            None => (NegativeInode::shared(), NEGATIVE),
        };
        let name: Arc<[u8]> = name.into();
        let child = Self::new(Some(self.clone()), name.clone(), inode, flags);
        self.put_child(name, &child);
        child
    }

    fn put_child(&self, name: Arc<[u8]>, child: &Arc<Self>) {
        let Some(dir) = &self.dir else { return };
        let mut children = dir.children.write();
        if children.by_name.len() >= children.sweep_at {
            children.by_name.retain(|_, child| child.strong_count() > 0);
            children.sweep_at = (children.by_name.len() * 2).max(16);
        }
        children.by_name.insert(name, Arc::downgrade(child));
    }

    /// Forgets `name`; the next lookup asks the file system.
    pub(super) fn forget_child(&self, name: &[u8]) {
        if let Some(dir) = &self.dir {
            dir.children.write().by_name.remove(name);
        }
    }

    /// Moves a dentry to another name, perhaps in another directory. The caller holds Rename and
    /// both directories' names.
    pub(super) fn move_to(self: &Arc<Self>, new_dir: &Arc<Self>, new_name: &[u8]) {
        let new_name: Arc<[u8]> = new_name.into();
        let place = Place { parent: Some(new_dir.clone()), name: new_name.clone() };
        let old = mem::replace(&mut *self.place.write(), place);
        if let Some(old_dir) = &old.parent {
            // Exchange moves two: the other may already stand at the old name.
            let mine =
                matches!(old_dir.cached(&old.name), Cached::Known(ref at) if Arc::ptr_eq(at, self));
            if mine {
                old_dir.forget_child(&old.name);
            }
        }
        new_dir.put_child(new_name, self);
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A chain of parents may be very long: drop it in a loop, not by recursion.
        let mut parent = self.place.get_mut().parent.take();
        while let Some(dentry) = parent {
            parent =
                Arc::into_inner(dentry).and_then(|mut dentry| dentry.place.get_mut().parent.take());
        }
    }
}

impl fmt::Debug for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dentry({:?}, {:?})", String::from_utf8_lossy(&self.name()), self.inode)
    }
}
