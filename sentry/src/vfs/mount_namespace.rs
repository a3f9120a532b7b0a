//! Mount namespaces: a tree of mounts, and how it changes.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use ranked_sync::{Mutex, RwLock};

use super::{
    FileSystem, FileSystemTypes, Mount, MountFlags, PathCx, VfsPath, policed::Enforcement,
};
use crate::{
    Errno, SysResult, err,
    kernel::{Credentials, FsContext},
    lock_order,
    policy::FilePolicy,
};

/// At most so many mounts in a namespace (`fs.mount-max` in Linux is 100,000).
const MOUNT_MAX: usize = 10_000;

/// Copies by the number of the mount that was copied.
pub(crate) type CopiedMounts = HashMap<u64, Arc<Mount>>;

/// What processes see as the tree (mount_namespaces(7)).
pub struct MountNamespace {
    id: u64,
    root: RwLock<lock_order::MountLinks, Arc<Mount>>,
    /// Held while the tree changes.
    tree: Mutex<lock_order::MountTree, Tree>,
    types: Arc<FileSystemTypes>,
    users: Mutex<lock_order::Leaf, Vec<Weak<FsContext>>>,
    /// The rules for files.
    enforcement: OnceLock<Arc<Enforcement>>,
}

#[derive(Debug, Default)]
struct Tree {
    count: usize,
}

/// A line of /proc/PID/mountinfo, all but the optional fields.
#[derive(Debug)]
pub struct MountInfo {
    pub mount: Arc<Mount>,
    pub parent_id: u64,
    /// What of the file system is shown.
    pub root: Vec<u8>,
    /// Where, as seen from the reader's root.
    pub target: Vec<u8>,
}

impl MountNamespace {
    /// A namespace whose root is this file system.
    pub fn new(root: Arc<dyn FileSystem>, flags: MountFlags, source: &[u8]) -> Arc<Self> {
        let root = Mount::new(root, flags, source);
        Self::with_root(root, Arc::default(), 1)
    }

    /// Puts all names in it, and in what will be mounted and copied, under rules. Once.
    pub fn enforce(self: &Arc<Self>, policy: FilePolicy) {
        let cx = PathCx::at_root(self, Credentials::root());
        let enforcement = Enforcement::start(policy, &cx, &self.mounts());
        let _ = self.enforcement.set(enforcement);
    }

    fn with_root(root: Arc<Mount>, types: Arc<FileSystemTypes>, count: usize) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        for_each(&root, &mut |mount| mount.set_namespace(id));
        Arc::new(Self {
            id,
            root: RwLock::new(root),
            tree: Mutex::new(Tree { count }),
            types,
            users: Mutex::default(),
            enforcement: OnceLock::new(),
        })
    }

    /// Its number: tells namespaces apart (/proc/PID/ns/mnt).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What mount(2) can mount.
    pub fn types(&self) -> &Arc<FileSystemTypes> {
        &self.types
    }

    /// The root, seen through what is mounted on it.
    pub fn root(&self) -> VfsPath {
        let root = self.root.read().clone();
        root.root().cross_down().0
    }

    /// A process uses it (for pivot_root, which moves the roots of all).
    pub(crate) fn add_user(&self, user: &Arc<FsContext>) {
        let mut users = self.users.lock();
        if users.len() == users.capacity() {
            users.retain(|user| user.strong_count() > 0);
        }
        users.push(Arc::downgrade(user));
    }

    /// Is the place in this namespace?
    pub fn contains(&self, mount: &Mount) -> bool {
        mount.namespace_id() == self.id
    }

    /// Mounts a file system at `place` (on top of what is there).
    pub fn mount(
        &self,
        fs: Arc<dyn FileSystem>,
        place: VfsPath,
        flags: MountFlags,
        source: &[u8],
    ) -> SysResult<Arc<Mount>> {
        let mount = Mount::new(fs, flags, source);
        if let Some(enforcement) = self.enforcement.get() {
            enforcement.police(&mount, &place);
        }
        self.attach(&mount, place)?;
        Ok(mount)
    }

    /// Hangs a mount (with what hangs on it) at `place`.
    fn attach(&self, mount: &Arc<Mount>, place: VfsPath) -> SysResult<()> {
        let mut tree = self.tree.lock();
        let (place, _) = place.cross_down();
        if !self.contains(&place.mount) {
            return err!(EINVAL);
        }
        if place.dentry.is_unlinked() {
            return err!(ENOENT);
        }
        if mount.root_dentry().is_dir() != place.dentry.is_dir() {
            return err!(ENOTDIR);
        }
        let mut added = 0;
        for_each(mount, &mut |_| added += 1);
        if tree.count.saturating_add(added) > MOUNT_MAX {
            return err!(ENOSPC);
        }
        tree.count += added;
        for_each(mount, &mut |mount| mount.set_namespace(self.id));
        mount.attach(place);
        Ok(())
    }

    /// MS_BIND: shows what is at `source` at `place` too; with all that is mounted below when `recursive`.
    pub fn bind(&self, source: &VfsPath, place: VfsPath, recursive: bool) -> SysResult<Arc<Mount>> {
        let copy = {
            let tree = self.tree.lock();
            if !self.contains(&source.mount) {
                return err!(EINVAL);
            }
            copy_tree(source, recursive, MOUNT_MAX.saturating_sub(tree.count), &mut |_, _| {})?
        };
        match self.attach(&copy, place) {
            Ok(()) => Ok(copy),
            Err(error) => {
                take_apart(&copy);
                Err(error)
            }
        }
    }

    /// umount2(2): `lazy` detaches whatever uses it; else `EBUSY` when something does.
    pub fn unmount(&self, path: &VfsPath, lazy: bool) -> SysResult<()> {
        let gone = {
            let mut tree = self.tree.lock();
            let mount = &path.mount;
            if !path.is_mount_root() || !self.contains(mount) {
                return err!(EINVAL);
            }
            if mount.mountpoint().is_none() {
                // The root of the namespace stays.
                return err!(EINVAL);
            }
            if !lazy {
                // Its parent's list, the caller's path.
                if !mount.children().is_empty() || Arc::strong_count(mount) > 2 {
                    return err!(EBUSY);
                }
            }
            let mut gone = Vec::new();
            for_each(mount, &mut |mount| gone.push(mount.clone()));
            for mount in gone.iter().rev() {
                mount.detach();
                mount.set_namespace(0);
            }
            tree.count = tree.count.saturating_sub(gone.len());
            gone
        };
        drop(gone);
        Ok(())
    }

    /// MS_MOVE.
    pub fn move_mount(&self, from: &VfsPath, to: VfsPath) -> SysResult<()> {
        let _tree = self.tree.lock();
        let (to, _) = to.cross_down();
        if !from.is_mount_root() || !self.contains(&from.mount) || !self.contains(&to.mount) {
            return err!(EINVAL);
        }
        if from.mount.mountpoint().is_none() {
            return err!(EINVAL);
        }
        if from.dentry.is_dir() != to.dentry.is_dir() {
            return err!(EINVAL);
        }
        if is_below(&to.mount, &from.mount) {
            return err!(ELOOP);
        }
        from.mount.detach();
        from.mount.attach(to);
        Ok(())
    }

    /// pivot_root(2): `new_root` becomes the root of the namespace, the old root is mounted at `put_old`.
    pub fn pivot_root(
        &self,
        cx_root: &VfsPath,
        new_root: &VfsPath,
        put_old: &VfsPath,
    ) -> SysResult<()> {
        let users = {
            let _tree = self.tree.lock();
            let places = [cx_root, new_root, put_old];
            if places.iter().any(|place| !self.contains(&place.mount)) {
                return err!(EINVAL);
            }
            if Arc::ptr_eq(&new_root.mount, &cx_root.mount)
                || Arc::ptr_eq(&put_old.mount, &cx_root.mount)
            {
                return err!(EBUSY);
            }
            if !cx_root.is_mount_root() || !new_root.is_mount_root() {
                return err!(EINVAL);
            }
            // put_old must be at or below new_root.
            let below = Arc::ptr_eq(&put_old.mount, &new_root.mount)
                || is_below(&put_old.mount, &new_root.mount);
            if !below || !is_below(&new_root.mount, &cx_root.mount) {
                return err!(EINVAL);
            }
            let old_place = cx_root.mount.detach();
            new_root.mount.detach();
            match old_place {
                Some(place) => new_root.mount.attach(place),
                None => *self.root.write() = new_root.mount.clone(),
            }
            cx_root.mount.attach(put_old.clone());
            self.users.lock().clone()
        };
        for user in users.iter().filter_map(Weak::upgrade) {
            user.replace_root(cx_root, new_root);
        }
        Ok(())
    }

    /// A copy of the whole tree, and which mount became which (by the old one's id).
    pub fn copy(&self) -> SysResult<(Arc<Self>, CopiedMounts)> {
        let mut map = HashMap::new();
        let mut count = 0;
        let root = {
            let _tree = self.tree.lock();
            let root = self.root.read().root();
            copy_tree(&root, true, MOUNT_MAX, &mut |old, new| {
                count += 1;
                map.insert(old.id(), new.clone());
            })?
        };
        let copy = Self::with_root(root, self.types.clone(), count);
        if let Some(enforcement) = self.enforcement.get() {
            let _ = copy.enforcement.set(enforcement.clone());
        }
        Ok((copy, map))
    }

    fn mounts(&self) -> Vec<Arc<Mount>> {
        let mut mounts = Vec::new();
        let _tree = self.tree.lock();
        let top = self.root.read().clone();
        for_each(&top, &mut |mount| mounts.push(mount.clone()));
        mounts
    }

    /// The mounts, as seen from `root`, in the order of /proc/PID/mountinfo.
    pub fn list(&self, root: &VfsPath) -> Vec<MountInfo> {
        let mut mounts = self.mounts();
        mounts.sort_by_key(|mount| mount.id());
        let mut lines = Vec::new();
        for mount in mounts {
            let target = super::path_name(&mount.root(), root);
            if !target.reachable {
                continue;
            }
            let parent_id = mount.mountpoint().map_or(mount.id(), |place| place.mount.id());
            let whole = mount.superblock().root().clone();
            let mut inside = Vec::new();
            let mut at = mount.root_dentry().clone();
            while !Arc::ptr_eq(&at, &whole) {
                let (parent, name) = at.parent_and_name();
                inside.splice(0..0, [b"/", &name[..]].concat());
                let Some(parent) = parent else { break };
                at = parent;
            }
            if inside.is_empty() {
                inside.push(b'/');
            }
            lines.push(MountInfo { mount, parent_id, root: inside, target: target.text });
        }
        lines
    }

    /// Each file system once, for sync(2).
    pub fn file_systems(&self) -> Vec<Arc<dyn FileSystem>> {
        let mut all: Vec<Arc<dyn FileSystem>> = Vec::new();
        let _tree = self.tree.lock();
        let top = self.root.read().clone();
        for_each(&top, &mut |mount| {
            if !all.iter().any(|fs| Arc::ptr_eq(fs, mount.fs())) {
                all.push(mount.fs().clone());
            }
        });
        all
    }
}

impl Drop for MountNamespace {
    fn drop(&mut self) {
        // Parent and child mounts hold each other: take them apart.
        let mut mounts = Vec::new();
        for_each(&self.root.get_mut().clone(), &mut |mount| mounts.push(mount.clone()));
        for mount in mounts.iter().rev() {
            mount.detach();
        }
    }
}

/// Calls `f` for a mount and all below it, parents first.
fn for_each(mount: &Arc<Mount>, f: &mut dyn FnMut(&Arc<Mount>)) {
    let mut stack = vec![mount.clone()];
    while let Some(mount) = stack.pop() {
        f(&mount);
        stack.extend(mount.children());
    }
}

/// Is `mount` strictly below `above`?
fn is_below(mount: &Arc<Mount>, above: &Arc<Mount>) -> bool {
    let mut at = mount.mountpoint();
    while let Some(place) = at {
        if Arc::ptr_eq(&place.mount, above) {
            return true;
        }
        at = place.mount.mountpoint();
    }
    Arc::ptr_eq(mount, above)
}

/// Copies what `source` shows, in no tree yet. `seen` hears of each pair. `ENOSPC` above `limit` mounts.
fn copy_tree(
    source: &VfsPath,
    recursive: bool,
    limit: usize,
    seen: &mut dyn FnMut(&Arc<Mount>, &Arc<Mount>),
) -> SysResult<Arc<Mount>> {
    let copy = |old: &Arc<Mount>, root: &Arc<super::Dentry>| {
        Mount::of(old.superblock().clone(), root.clone(), old.flags(), old.source())
    };
    let top = copy(&source.mount, &source.dentry);
    seen(&source.mount, &top);
    let mut made = 1;
    let mut stack = if recursive { vec![(source.mount.clone(), top.clone())] } else { Vec::new() };
    while let Some((old, new)) = stack.pop() {
        for child in old.children() {
            let Some(place) = child.mountpoint() else { continue };
            let is_top = Arc::ptr_eq(&old, &source.mount);
            if is_top && !place.dentry.is_within(&source.dentry) {
                continue;
            }
            made += 1;
            if made > limit {
                take_apart(&top);
                return Err(Errno::ENOSPC.into());
            }
            let twin = copy(&child, child.root_dentry());
            twin.attach(VfsPath { mount: new.clone(), dentry: place.dentry.clone() });
            seen(&child, &twin);
            stack.push((child, twin));
        }
    }
    Ok(top)
}

fn take_apart(top: &Arc<Mount>) {
    let mut mounts = Vec::new();
    for_each(top, &mut |mount| mounts.push(mount.clone()));
    for mount in mounts.iter().rev() {
        mount.detach();
    }
}

impl fmt::Debug for MountNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MountNamespace({})", self.id)
    }
}
