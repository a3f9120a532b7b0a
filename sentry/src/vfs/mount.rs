//! Mounts, and places in the mount tree.
//!
//! A mount knows where it hangs (its parent mount and the dentry there) and what hangs on it;
//! both under its own lock, so that a walk takes no lock of the whole tree. Changes of the tree
//! are made by its [`MountNamespace`](super::MountNamespace), one at a time.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bitflags::bitflags;
use ranked_sync::RwLock;

use super::{Dentry, FileSystem, Inode, Superblock};
use crate::lock_order;

bitflags! {
    /// What a mount forbids (mount(2), in the bits of its `flags`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        const RDONLY = libc::MS_RDONLY as u32;
        const NOSUID = libc::MS_NOSUID as u32;
        const NODEV = libc::MS_NODEV as u32;
        const NOEXEC = libc::MS_NOEXEC as u32;
        const NOATIME = libc::MS_NOATIME as u32;
        const NODIRATIME = libc::MS_NODIRATIME as u32;
        const RELATIME = libc::MS_RELATIME as u32;
        const NOSYMFOLLOW = 256;
    }
}

/// A file system (or a part of it) at a place in the tree.
pub struct Mount {
    id: u64,
    superblock: Arc<Superblock>,
    /// The directory (or, for a bind mount, file) that is seen at the mount point.
    root: Arc<Dentry>,
    flags: AtomicU32,
    /// What was mounted, as mount(2) was told.
    source: Vec<u8>,
    links: RwLock<lock_order::MountLinks, Links>,
}

#[derive(Default)]
struct Links {
    /// The namespace it is in; 0 when it is in none (detached, or internal).
    namespace: u64,
    parent: Option<VfsPath>,
    /// By the address of the dentry they sit on.
    children: HashMap<usize, Arc<Mount>>,
}

impl Mount {
    /// A mount of the whole of a file system, in no tree yet.
    pub fn new(fs: Arc<dyn FileSystem>, flags: MountFlags, source: &[u8]) -> Arc<Self> {
        let superblock = Superblock::new(fs);
        let root = superblock.root().clone();
        Self::of(superblock, root, flags, source)
    }

    /// A mount in no tree: where inodes without a name are.
    pub fn internal(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        Self::new(fs, MountFlags::empty(), b"none")
    }

    /// A mount of the part of a file system below `root`.
    pub(super) fn of(
        superblock: Arc<Superblock>,
        root: Arc<Dentry>,
        flags: MountFlags,
        source: &[u8],
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(20);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            superblock,
            root,
            flags: AtomicU32::new(flags.bits()),
            source: source.to_vec(),
            links: RwLock::default(),
        })
    }

    /// The file system it shows.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        self.superblock.fs()
    }

    pub fn superblock(&self) -> &Arc<Superblock> {
        &self.superblock
    }

    /// As in /proc/PID/mountinfo.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn source(&self) -> &[u8] {
        &self.source
    }

    pub fn root_dentry(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// The place of its root.
    pub fn root(self: &Arc<Self>) -> VfsPath {
        VfsPath { mount: self.clone(), dentry: self.root.clone() }
    }

    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::RDONLY)
    }

    /// Where it is mounted; `None` for the root of a namespace and what is in none.
    pub fn mountpoint(&self) -> Option<VfsPath> {
        self.links.read().parent.clone()
    }

    /// The mount that sits on this dentry, seen through this mount.
    pub(super) fn child_at(&self, dentry: &Arc<Dentry>) -> Option<Arc<Self>> {
        self.links.read().children.get(&dentry.as_ptr_value()).cloned()
    }

    /// What is mounted directly on it.
    pub fn children(&self) -> Vec<Arc<Self>> {
        let mut children: Vec<_> = self.links.read().children.values().cloned().collect();
        children.sort_by_key(|mount| mount.id);
        children
    }

    pub(super) fn namespace_id(&self) -> u64 {
        self.links.read().namespace
    }

    pub(super) fn set_namespace(&self, id: u64) {
        self.links.write().namespace = id;
    }

    /// Hangs it at `place`. The caller holds the tree.
    pub(super) fn attach(self: &Arc<Self>, place: VfsPath) {
        place.dentry.add_mount();
        let key = place.dentry.as_ptr_value();
        let parent = place.mount.clone();
        self.links.write().parent = Some(place);
        parent.links.write().children.insert(key, self.clone());
    }

    /// Takes it from where it hangs; what hangs on it stays on it. The caller holds the tree.
    pub(super) fn detach(self: &Arc<Self>) -> Option<VfsPath> {
        let place = self.links.write().parent.take()?;
        let gone = place.mount.links.write().children.remove(&place.dentry.as_ptr_value());
        place.dentry.remove_mount();
        drop(gone);
        Some(place)
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mount({} {})", self.id, self.fs().type_name())
    }
}

/// A place in the mount tree (`struct path` in Linux).
#[derive(Clone, Debug)]
pub struct VfsPath {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl VfsPath {
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// The same place, not just the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// Is it the root of its mount?
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.dentry, &self.mount.root)
    }

    /// Through whatever is mounted here, to the topmost root.
    pub(super) fn cross_down(mut self) -> (Self, bool) {
        let mut crossed = false;
        while self.dentry.may_be_mountpoint()
            && let Some(mount) = self.mount.child_at(&self.dentry)
        {
            self = mount.root();
            crossed = true;
        }
        (self, crossed)
    }

    /// The root of what is mounted here last; itself when nothing is.
    pub fn topmost(self) -> Self {
        self.cross_down().0
    }

    /// The place in the same mount; for a name just looked up.
    pub(super) fn sibling(&self, dentry: Arc<Dentry>) -> Self {
        Self { mount: self.mount.clone(), dentry }
    }
}
