//! One host file.

use std::{
    any::Any,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock, Weak, atomic::AtomicU32},
};

use gofer_wire::{Attr, Device, OpenFlags, OpenHow, Timestamp, TreePathBuf};
use platform::host::poller;
use ranked_sync::Mutex;

use super::{
    Tree, Walked, convert,
    dir::{GoferDirFile, Prefetched},
    file::GoferFile,
    listing::Listing,
    open_files::{OpenFiles, attr_of},
};
use crate::{
    Errno, SysResult, err, lock_order,
    mm::WrittenParts,
    vfs::{
        DirOps, FileOps, FileType, Inode, Intent, Metadata, SetAttr, TimeSpec, VfsPath,
        XattrSetMode,
    },
};

/// Parent and name; `None` for the root.
pub(super) type Home = Option<(Arc<GoferInode>, Vec<u8>)>;

/// A host file or directory. Nothing is open on its account but, for a while, a read descriptor.
pub(super) struct GoferInode {
    this: Weak<GoferInode>,
    pub(super) tree: Arc<Tree>,
    root_dev: Device,
    /// Where it is. Changed by renames.
    place: Mutex<lock_order::Leaf, Home>,
    /// As last seen.
    attr: Mutex<lock_order::Leaf, Attr>,
    /// Of a link: where it points, as a walk said it. In a shared tree for the next who asks only.
    target: Mutex<lock_order::Leaf, Option<Vec<u8>>>,
    /// Opened for reading before, and likely again.
    read_file: OnceLock<Arc<OwnedFd>>,
    /// In a shared tree: the descriptors by which it is open.
    open: Mutex<lock_order::Leaf, OpenFiles>,
    pub(super) listing: Mutex<lock_order::Leaf, Option<Arc<Listing>>>,
    /// Missing names that were asked for, of a directory.
    pub(super) misses: AtomicU32,
    pub(super) prefetched: Mutex<lock_order::Leaf, Option<Prefetched>>,
    /// In an immutable tree, of a program or library that was mapped.
    pub(super) written_parts: OnceLock<Box<WrittenParts>>,
    /// In an immutable tree: why it carries no capabilities, once that was asked.
    no_capabilities: OnceLock<Errno>,
    /// The guest's own fifo or socket of that place; host ones are never opened.
    pub(super) bound: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl GoferInode {
    pub(super) fn root(tree: Arc<Tree>, attr: Attr) -> Arc<Self> {
        Self::new(tree, attr.dev, None, attr)
    }

    /// The entry `name` of this directory.
    pub(super) fn child(self: &Arc<Self>, name: &[u8], attr: Attr) -> Arc<Self> {
        let place = Some((self.clone(), name.to_vec()));
        Self::new(self.tree.clone(), self.root_dev, place, attr)
    }

    fn new(tree: Arc<Tree>, root_dev: Device, place: Home, attr: Attr) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            tree,
            root_dev,
            place: Mutex::new(place),
            attr: Mutex::new(attr),
            target: Mutex::new(None),
            read_file: OnceLock::new(),
            open: Mutex::new(OpenFiles::default()),
            listing: Mutex::new(None),
            written_parts: OnceLock::new(),
            no_capabilities: OnceLock::new(),
            misses: AtomicU32::new(0),
            prefetched: Mutex::new(None),
            bound: OnceLock::new(),
        })
    }

    /// The `Arc` it lives in, for children to hold.
    pub(super) fn strong(&self) -> SysResult<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ESTALE.into())
    }

    /// The directory it is in, and its name there; `None` for the root.
    pub(super) fn home(&self) -> Home {
        self.place.lock().clone()
    }

    /// Its path in the tree, now.
    pub(super) fn path(&self) -> SysResult<TreePathBuf> {
        let mut names = Vec::new();
        let mut at = self.place.lock().clone();
        while let Some((parent, name)) = at {
            names.push(name);
            at = parent.place.lock().clone();
        }
        Ok(TreePathBuf::from_names(names.iter().rev().map(Vec::as_slice))?)
    }

    /// For `..`: the parent's number, the root's own at the root.
    pub(super) fn parent_ino(&self) -> u64 {
        let parent = self.place.lock().as_ref().map(|(parent, _)| parent.clone());
        parent.map_or(self.cached_attr().ino, |parent| parent.cached_attr().ino)
    }

    /// It was renamed in the sandbox.
    pub(super) fn moved_to(&self, parent: &Arc<Self>, name: &[u8]) {
        let before = self.place.lock().replace((parent.clone(), name.to_vec()));
        drop(before);
    }

    pub(super) fn set_target(&self, target: Vec<u8>) {
        *self.target.lock() = Some(target);
    }

    /// Attributes as the gofer told them just now.
    pub(super) fn saw(&self, attr: Attr) {
        *self.attr.lock() = attr;
    }

    pub(super) fn cached_attr(&self) -> Attr {
        *self.attr.lock()
    }

    /// The size, in a tree where it does not change.
    pub(super) fn fixed_size(&self) -> Option<u64> {
        self.tree.immutable.then(|| self.cached_attr().size)
    }

    /// Attributes that hold: as seen once in an immutable tree, asked again elsewhere.
    fn attr(&self) -> SysResult<Attr> {
        if self.tree.immutable {
            return Ok(self.cached_attr());
        }
        let before = self.cached_attr();
        let (open, nameless_changes) = {
            let open = self.open.lock();
            (open.any(), open.nameless_changes())
        };
        if let Some(file) = open {
            self.saw(attr_of(&file, &before, nameless_changes)?);
        } else {
            let path = self.path()?;
            let attr = self.tree.client.get_attr(self.tree.place(path.as_path()))?;
            self.saw(attr);
        }
        Ok(self.cached_attr())
    }

    /// Whether what was just looked up is this very file; then its attributes, and what was
    /// learned of names below, go over to this one.
    pub(super) fn is_still(&self, now: &Self) -> bool {
        let (old, new) = (self.cached_attr(), now.cached_attr());
        let same = old.id() == new.id()
            && old.file_type() == new.file_type()
            && (old.btime == new.btime || old.btime.is_none() || new.btime.is_none());
        if same {
            self.saw(new);
            let target = now.target.lock().take();
            if let Some(target) = target {
                self.set_target(target);
            }
            let below = now.prefetched.lock().take();
            let before = std::mem::replace(&mut *self.prefetched.lock(), below);
            drop(before);
        }
        same
    }

    pub(super) fn file_type(&self) -> Option<FileType> {
        convert::kind(self.cached_attr().file_type())
    }

    /// A descriptor for reading; kept for the next time where that is safe.
    pub(super) fn open_for_reading(&self) -> SysResult<Arc<OwnedFd>> {
        if let Some(file) = self.read_file.get() {
            return Ok(file.clone());
        }
        let ahead = if self.tree.immutable { self.open_ahead()? } else { None };
        let file = match ahead {
            Some(file) => file,
            None => self.open_file(OpenHow::READ)?,
        };
        self.keep(&file);
        Ok(file)
    }

    /// Keeps a read descriptor for later opens, in an immutable tree and within the limit.
    pub(super) fn keep(&self, file: &Arc<OwnedFd>) {
        if self.tree.immutable && self.tree.keep_file() && self.read_file.set(file.clone()).is_err()
        {
            self.tree.unkeep_file();
        }
    }

    /// Keeps the descriptor that came with a walk: in an immutable tree for all opens to come, in a shared
    /// one for the open that follows.
    pub(super) fn keep_walked(&self, file: Arc<OwnedFd>, intent: Intent) {
        if self.tree.immutable {
            self.count_open();
            return self.keep(&file);
        }
        let walked =
            Walked { id: self.cached_attr().id(), writable: intent == Intent::Write, file };
        let before = self.tree.walked.lock().replace(walked);
        drop(before);
    }

    fn open_file(&self, how: OpenHow) -> SysResult<Arc<OwnedFd>> {
        let path = self.path()?;
        let opened = self.tree.client.open(self.tree.place(path.as_path()), how)?;
        self.saw(opened.attr);
        Ok(Arc::new(opened.file))
    }

    /// Keeps the descriptor that came of making this file, for the open that follows.
    pub(super) fn keep_made(&self, file: OwnedFd) {
        *self.open.lock() = OpenFiles::made(file);
    }

    /// Changes a file of a shared tree: through a descriptor where it is open, else by path, if
    /// that still leads to it.
    fn change_shared(&self, mut change: gofer_wire::SetAttr) -> SysResult<()> {
        let (any, writable) = {
            let open = self.open.lock();
            (open.any(), open.writable())
        };
        if let (Some(size), Some(file)) = (change.size, writable) {
            poller::truncate(file.as_fd(), size)?;
            change.size = None;
        }
        // Of a closed file, as it was looked up: what is there now may be another.
        let mut attr = if any.is_some() { self.attr()? } else { self.cached_attr() };
        if any.is_some() && attr.nlink == 0 && change.size.is_none() {
            let now = TimeSpec::now();
            let now = Timestamp { sec: now.sec, nsec: now.nsec };
            self.open.lock().change_nameless(&mut attr, &change, now);
            self.saw(attr);
            return Ok(());
        }
        if change != gofer_wire::SetAttr::default() {
            let path = self.path()?;
            let place = self.tree.place(path.as_path());
            self.saw(self.tree.client.set_attr_of(place, attr.id(), &change)?);
        }
        Ok(())
    }

    fn open_regular(self: Arc<Self>, flags: u32) -> SysResult<Box<dyn FileOps>> {
        let access = flags & libc::O_ACCMODE as u32;
        if open_flags(flags).is_empty() {
            let made = self.open.lock().take_made();
            if let Some(file) = made {
                self.open.lock().opened(&file, true);
                let writable = access != libc::O_RDONLY as u32;
                return Ok(Box::new(GoferFile::new(self, file, writable)));
            }
        }
        let writable = access != libc::O_RDONLY as u32;
        if open_flags(flags).is_empty()
            && let Some(file) = self.tree.take_walked(self.cached_attr().id(), writable)
        {
            self.open.lock().opened(&file, writable);
            return Ok(Box::new(GoferFile::new(self, file, writable)));
        }
        // Truncation is done through `set_attr`.
        let (file, writable) = if access == libc::O_RDONLY as u32 {
            (self.open_for_reading()?, false)
        } else {
            // Always readable too: a shared mapping of it needs that, and the sentry reads through it.
            let read_write = OpenHow { flags: open_flags(flags), ..OpenHow::READ_WRITE };
            let write = OpenHow { flags: open_flags(flags), ..OpenHow::WRITE };
            let file = match self.open_file(read_write) {
                Err(error) if error.errno() == Errno::EACCES => self.open_file(write)?,
                result => result?,
            };
            (file, true)
        };
        if !self.tree.immutable {
            self.open.lock().opened(&file, writable);
        }
        Ok(Box::new(GoferFile::new(self, file, writable)))
    }
}

fn open_flags(flags: u32) -> OpenFlags {
    let mut out = OpenFlags::empty();
    for (bit, flag) in [
        (libc::O_SYNC, OpenFlags::SYNC),
        (libc::O_DSYNC, OpenFlags::DATA_SYNC),
        (libc::O_DIRECT, OpenFlags::DIRECT),
    ] {
        if flags & bit as u32 == bit as u32 {
            out |= flag;
        }
    }
    out
}

impl Inode for GoferInode {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(convert::metadata(&self.attr()?, self.tree.dev, self.root_dev))
    }

    fn metadata_seen(&self) -> SysResult<Metadata> {
        Ok(convert::metadata(&self.cached_attr(), self.tree.dev, self.root_dev))
    }

    fn kind(&self) -> Option<FileType> {
        self.file_type()
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        let change = convert::set_attr(change);
        if !self.tree.immutable {
            return self.change_shared(change);
        }
        let path = self.path()?;
        let place = self.tree.place(path.as_path());
        self.saw(self.tree.client.set_attr(place, &change)?);
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        match self.file_type() {
            Some(FileType::Regular) => self.open_regular(flags),
            Some(FileType::Directory) => Ok(Box::new(GoferDirFile::open(self)?)),
            Some(FileType::Symlink) => err!(ELOOP),
            // Host devices, fifos and sockets are not reachable through files.
            _ => err!(ENXIO),
        }
    }

    fn as_dir(&self) -> Option<&dyn DirOps> {
        (self.file_type() == Some(FileType::Directory)).then_some(self)
    }

    fn read_link(&self) -> SysResult<Vec<u8>> {
        if self.file_type() != Some(FileType::Symlink) {
            return err!(EINVAL);
        }
        let known = {
            let mut target = self.target.lock();
            if self.tree.immutable { target.clone() } else { target.take() }
        };
        if let Some(target) = known {
            return Ok(target);
        }
        let path = self.path()?;
        let target = self.tree.client.read_link(self.tree.place(path.as_path()))?;
        if self.tree.immutable {
            self.set_target(target.clone());
        }
        Ok(target)
    }

    fn get_xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        // Each execve asks for it, and hardly any file has one.
        let capabilities = self.tree.immutable && name == b"security.capability";
        if capabilities && let Some(errno) = self.no_capabilities.get() {
            return Err((*errno).into());
        }
        let path = self.path()?;
        let value = self.tree.client.get_xattr(self.tree.place(path.as_path()), name);
        if let Err(errno @ (Errno::ENODATA | Errno::EOPNOTSUPP)) = value
            && capabilities
        {
            let _ = self.no_capabilities.set(errno);
        }
        Ok(value?)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrSetMode) -> SysResult<()> {
        let flags = match mode {
            XattrSetMode::Any => 0,
            XattrSetMode::Create => libc::XATTR_CREATE as u32,
            XattrSetMode::Replace => libc::XATTR_REPLACE as u32,
        };
        let path = self.path()?;
        Ok(self.tree.client.set_xattr(self.tree.place(path.as_path()), name, value, flags)?)
    }

    fn list_xattr(&self) -> SysResult<Vec<u8>> {
        let path = self.path()?;
        match self.tree.client.list_xattr(self.tree.place(path.as_path())) {
            Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
            result => Ok(result?),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> SysResult<()> {
        let path = self.path()?;
        Ok(self.tree.client.remove_xattr(self.tree.place(path.as_path()), name)?)
    }

    fn bound_socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.bound.get().cloned()
    }
}

impl Drop for GoferInode {
    fn drop(&mut self) {
        if self.read_file.get().is_some() {
            self.tree.unkeep_file();
        }
        // A chain of 100,000 parents must not be dropped by recursion.
        let mut next = self.place.get_mut().take().map(|(parent, _)| parent);
        while let Some(parent) = next {
            let Some(mut last) = Arc::into_inner(parent) else { break };
            next = last.place.get_mut().take().map(|(parent, _)| parent);
        }
    }
}

impl fmt::Debug for GoferInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.place.lock() {
            Some((_, name)) => write!(f, "gofer:{}", String::from_utf8_lossy(name)),
            None => f.write_str("gofer:/"),
        }
    }
}

#[cfg(test)]
mod tests;
