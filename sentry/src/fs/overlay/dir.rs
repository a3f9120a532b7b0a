//! Directories: entries from below, and the changes to them.

use std::{
    any::Any,
    sync::{Arc, Weak},
};

use super::{
    dir_file::ListedName,
    inode::{BoundSocket, Content, Entries, OverlayInode, Slot},
};
use crate::{
    Errno, SysResult, err,
    fs::pipe::Pipe,
    vfs::{Creation, DirOps, FileDescription, FileType, Inode, Intent, RenameFlags, TimeSpec},
};

impl Entries {
    /// A clean entry got changes: hold it.
    pub(super) fn hold(&mut self, name: &[u8], inode: &Arc<OverlayInode>) {
        let slot = Slot::There { inode: inode.clone(), hides_lower: inode.lower.is_some() };
        match self.slots.get_mut(name) {
            Some(there @ Slot::Clean(_)) => {
                *there = slot;
                self.changed += 1;
            }
            None => {
                self.slots.insert(name.to_vec(), slot);
                self.changed += 1;
            }
            Some(_) => {}
        }
    }

    /// Puts an inode that is new in this place.
    fn put(&mut self, name: &[u8], inode: Arc<OverlayInode>) {
        let hides_lower = self.hides_lower(name);
        let before = self.slots.insert(name.to_vec(), Slot::There { inode, hides_lower });
        self.changed += usize::from(matches!(before, None | Some(Slot::Clean(_))));
    }

    /// Takes an entry away.
    fn remove(&mut self, name: &[u8]) {
        let was_changed = !matches!(self.slots.get(name), Some(Slot::Clean(_)) | None);
        if self.hides_lower(name) {
            self.changed += usize::from(!was_changed);
            self.slots.insert(name.to_vec(), Slot::Gone);
        } else {
            self.changed -= usize::from(was_changed);
            self.slots.remove(name);
        }
    }

    /// Is there something of that name below? Entries are looked up before they are changed, so
    /// that an unknown name is one that is not there.
    fn hides_lower(&self, name: &[u8]) -> bool {
        match self.slots.get(name) {
            None => false,
            Some(Slot::Clean(_) | Slot::Gone) => true,
            Some(Slot::There { hides_lower, .. }) => *hides_lower,
        }
    }

    /// Forgets clean entries which nobody holds.
    fn prune(&mut self) {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Clean(weak) if weak.strong_count() == 0));
    }
}

/// Clean slots are looked through for dead ones when there are so many.
const PRUNE_AT: usize = 512;

impl OverlayInode {
    fn entries<T>(&self, f: impl FnOnce(&mut Entries) -> T) -> SysResult<T> {
        match &mut self.state.lock().content {
            Content::Dir(entries) => Ok(f(entries)),
            _ => err!(ENOTDIR),
        }
    }

    /// The entry, if this layer knows: `Some(None)` is a removed one.
    fn known(&self, name: &[u8]) -> SysResult<Option<Option<Arc<OverlayInode>>>> {
        self.entries(|entries| match entries.slots.get(name) {
            Some(Slot::There { inode, .. }) => Some(Some(inode.clone())),
            Some(Slot::Gone) => Some(None),
            Some(Slot::Clean(weak)) => weak.upgrade().map(Some),
            None => None,
        })
    }

    pub(super) fn entry(&self, name: &[u8]) -> SysResult<Arc<OverlayInode>> {
        if let Some(known) = self.known(name)? {
            return known.ok_or(Errno::ENOENT.into());
        }
        let Some(lower) = &self.lower else { return err!(ENOENT) };
        let lower = lower.as_dir().ok_or(Errno::ENOTDIR)?.lookup(name)?;
        let home = Some((self.strong()?, name.to_vec()));
        let inode = Self::over(&self.shared, lower, home)?;
        self.entries(|entries| {
            if entries.slots.len() - entries.changed.min(entries.slots.len()) >= PRUNE_AT {
                entries.prune();
            }
            let changed = inode.is_pinned();
            match entries.slots.get(name) {
                // Looked up by another task meanwhile.
                Some(Slot::There { inode, .. }) => Ok(inode.clone()),
                Some(Slot::Gone) => err!(ENOENT),
                Some(Slot::Clean(weak)) if weak.strong_count() > 0 => {
                    weak.upgrade().ok_or(Errno::ENOENT.into())
                }
                _ if changed => {
                    // A second name of a file that has changes.
                    entries.hold(name, &inode);
                    Ok(inode.clone())
                }
                _ => {
                    let clean: Weak<OverlayInode> = Arc::downgrade(&inode);
                    entries.slots.insert(name.to_vec(), Slot::Clean(clean));
                    Ok(inode.clone())
                }
            }
        })?
    }

    /// Puts a new inode into this directory. `EEXIST` when the name is taken; that it is not taken by something
    /// below, VFS found out before.
    fn add(
        &self,
        name: &[u8],
        kind: FileType,
        rdev: u64,
        new: &Creation,
        content: impl FnOnce(u64) -> Content,
    ) -> SysResult<Arc<OverlayInode>> {
        if let Some(Some(_)) = self.known(name)? {
            return err!(EEXIST);
        }
        self.pin()?;
        let inode = Self::new(&self.shared, kind, rdev, new, content)?;
        inode.set_home(Some((self.strong()?, name.to_vec())));
        self.entries(|entries| entries.put(name, inode.clone()))?;
        self.change_attrs(|attrs| {
            attrs.touch();
            attrs.nlink += u32::from(kind == FileType::Directory);
        })?;
        Ok(inode)
    }

    /// Takes a name away, which is `inode`'s.
    fn take(&self, name: &[u8], inode: &Arc<OverlayInode>) -> SysResult<()> {
        self.pin()?;
        let is_dir = inode.kind == FileType::Directory;
        let mut nlink = 0;
        inode.change_attrs(|attrs| {
            attrs.nlink = if is_dir { 0 } else { attrs.nlink.saturating_sub(1) };
            attrs.ctime = TimeSpec::now();
            nlink = attrs.nlink;
        })?;
        if nlink == 0 {
            inode.forget_other_names()?;
        }
        self.entries(|entries| entries.remove(name))?;
        inode.set_home(None);
        self.change_attrs(|attrs| {
            attrs.touch();
            attrs.nlink = attrs.nlink.saturating_sub(u32::from(is_dir));
        })
    }

    /// The names below that this layer neither hides nor removed.
    pub(super) fn lower_names(&self) -> SysResult<Vec<ListedName>> {
        let Some(lower) = &self.lower else { return Ok(Vec::new()) };
        let mut names = super::file::list(&self.shared, lower)?;
        self.entries(|entries| {
            if entries.changed > 0 {
                names.retain(|(name, _, _)| {
                    matches!(entries.slots.get(name), None | Some(Slot::Clean(_)))
                });
            }
        })?;
        Ok(names)
    }

    /// The directory below, open, if all names are as there.
    pub(super) fn open_unchanged_lower(&self) -> SysResult<Option<Arc<FileDescription>>> {
        match &self.lower {
            Some(lower) if self.entries(|entries| entries.changed == 0)? => {
                super::file::open_lower(&self.shared, lower).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Opens the directory below for once, where not everybody may.
    pub(super) fn try_lower(&self) -> SysResult<()> {
        match &self.lower {
            Some(lower) if lower.metadata()?.mode & libc::S_IROTH == 0 => {
                super::file::open_lower(&self.shared, lower).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn is_empty(&self) -> SysResult<bool> {
        let mine = self.entries(|entries| {
            entries.slots.values().any(|slot| matches!(slot, Slot::There { .. }))
        })?;
        Ok(!mine && self.lower_names()?.is_empty())
    }

    /// Reports entries of this layer, for a listing.
    pub(super) fn upper_names(&self) -> SysResult<Vec<ListedName>> {
        self.entries(|entries| {
            if entries.changed == 0 {
                return Vec::new();
            }
            let there = entries.slots.iter().filter_map(|(name, slot)| match slot {
                Slot::There { inode, .. } => Some((name.clone(), inode.number(), Some(inode.kind))),
                Slot::Clean(_) | Slot::Gone => None,
            });
            there.collect()
        })
    }
}

/// The inode as one of an overlay's. VFS gives no others.
fn ours(inode: &Arc<dyn Inode>) -> SysResult<Arc<OverlayInode>> {
    let any: Arc<dyn Any + Send + Sync> = inode.clone();
    any.downcast().map_err(|_| Errno::EXDEV.into())
}

impl DirOps for OverlayInode {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        Ok(self.entry(name)?)
    }

    fn missing_is_cheap(&self) -> bool {
        self.lower.is_none()
    }

    fn prefetch(&self, names: &[&[u8]], intent: Intent) {
        let Some(first) = names.first() else { return };
        if let (Some(lower), Ok(None)) = (&self.lower, self.known(first))
            && let Some(lower) = lower.as_dir()
        {
            lower.prefetch(names, intent);
        }
    }

    fn create(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let content = |number| Content::File(self.shared.new_file(number));
        Ok(self.add(name, FileType::Regular, 0, new, content)?)
    }

    fn create_unnamed(&self, new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let content = |number| Content::File(self.shared.new_file(number));
        let inode = Self::new(&self.shared, FileType::Regular, 0, new, content)?;
        inode.change_attrs(|attrs| attrs.nlink = 0)?;
        Ok(inode)
    }

    fn mkdir(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let content = |_| Content::Dir(Entries::default());
        Ok(self.add(name, FileType::Directory, 0, new, content)?)
    }

    fn mknod(
        &self,
        name: &[u8],
        kind: FileType,
        rdev: u64,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        let content = |number| match kind {
            FileType::Regular => Content::File(self.shared.new_file(number)),
            FileType::Fifo => Content::Fifo(Pipe::new_fifo()),
            FileType::Socket => Content::Socket(None),
            _ => Content::Device,
        };
        Ok(self.add(name, kind, rdev, new, content)?)
    }

    fn bind_socket(
        &self,
        name: &[u8],
        socket: Arc<dyn Any + Send + Sync>,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        let content = |_| Content::Socket(Some(BoundSocket(socket)));
        Ok(self.add(name, FileType::Socket, 0, new, content)?)
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let new = Creation { mode: 0o777, ..*new };
        let content = |_| Content::Symlink(target.to_vec());
        Ok(self.add(name, FileType::Symlink, 0, &new, content)?)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> SysResult<()> {
        let inode = ours(inode)?;
        self.pin()?;
        inode.change_attrs(|attrs| {
            attrs.nlink += 1;
            attrs.ctime = TimeSpec::now();
        })?;
        // Which of its names is its home does not matter: it is held by all.
        inode.set_home(Some((self.strong()?, name.to_vec())));
        self.entries(|entries| entries.put(name, inode))?;
        self.change_attrs(|attrs| attrs.touch())
    }

    fn unlink(&self, name: &[u8], inode: &Arc<dyn Inode>) -> SysResult<()> {
        self.take(name, &ours(inode)?)
    }

    fn rmdir(&self, name: &[u8], inode: &Arc<dyn Inode>) -> SysResult<()> {
        let inode = ours(inode)?;
        if !inode.is_empty()? {
            return err!(ENOTEMPTY);
        }
        self.take(name, &inode)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> SysResult<()> {
        let to_dir = ours(new_dir)?;
        let this = self.strong()?;
        let inode = self.entry(name)?;
        // VFS holds what it found; what it did not find is not there.
        let target = to_dir.known(new_name)?.flatten();
        self.pin()?;
        to_dir.pin()?;
        inode.change_attrs(|attrs| attrs.ctime = TimeSpec::now())?;
        if flags.contains(RenameFlags::EXCHANGE) {
            let target = target.ok_or(Errno::ENOENT)?;
            target.change_attrs(|attrs| attrs.ctime = TimeSpec::now())?;
            self.entries(|entries| entries.put(name, target.clone()))?;
            target.set_home(Some((this.clone(), name.to_vec())));
            to_dir.entries(|entries| entries.put(new_name, inode.clone()))?;
            inode.set_home(Some((to_dir.clone(), new_name.to_vec())));
            move_subdir_count(&this, &to_dir, &inode)?;
            return move_subdir_count(&to_dir, &this, &target);
        }
        if let Some(target) = &target {
            if target.kind == FileType::Directory && !target.is_empty()? {
                return err!(ENOTEMPTY);
            }
            to_dir.take(new_name, target)?;
        }
        self.entries(|entries| entries.remove(name))?;
        to_dir.entries(|entries| entries.put(new_name, inode.clone()))?;
        inode.set_home(Some((to_dir.clone(), new_name.to_vec())));
        if flags.contains(RenameFlags::WHITEOUT) {
            let new = Creation { mode: 0, uid: 0, gid: 0 };
            self.add(name, FileType::CharDevice, 0, &new, |_| Content::Device)?;
        }
        move_subdir_count(&this, &to_dir, &inode)
    }
}

/// `inode` went from one directory to another: their times, and their counts of subdirectories.
fn move_subdir_count(
    from: &Arc<OverlayInode>,
    to: &Arc<OverlayInode>,
    inode: &OverlayInode,
) -> SysResult<()> {
    let counts = inode.kind == FileType::Directory && !Arc::ptr_eq(from, to);
    from.change_attrs(|attrs| {
        attrs.touch();
        attrs.nlink = attrs.nlink.saturating_sub(u32::from(counts));
    })?;
    to.change_attrs(|attrs| {
        attrs.touch();
        attrs.nlink += u32::from(counts);
    })
}
