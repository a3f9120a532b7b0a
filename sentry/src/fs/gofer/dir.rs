//! Host directories.

use std::{any::Any, collections::HashMap, fmt, sync::Arc};

use gofer_wire::{Attr, OpenHow, Owner, TreePathBuf, WalkEnd, request::NodeKind};

use ranked_sync::Mutex;

use super::{convert, inode::GoferInode};
use crate::{
    Errno, SysError, SysResult, err, lock_order,
    vfs::{
        Creation, DirEntry, DirOps, DirSink, FileDescription, FileOps, FileType, Inode, RenameFlags,
    },
};

/// What a walk further down learned about one entry of a directory, until it is asked for.
pub(super) struct Prefetched {
    name: Vec<u8>,
    /// `None`: there is no such entry.
    inode: Option<Arc<GoferInode>>,
}

/// A directory's entries, all of them, in the order the host told them.
pub(super) struct Listing {
    pub(super) entries: Vec<gofer_wire::DirEntry>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Listing {
    fn new(entries: Vec<gofer_wire::DirEntry>) -> Self {
        let by_name =
            entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        Self { entries, by_name }
    }
}

impl GoferInode {
    /// All entries; kept in an immutable tree.
    pub(super) fn list(&self) -> SysResult<Arc<Listing>> {
        if self.tree.immutable
            && let Some(listing) = &*self.listing.lock()
        {
            return Ok(listing.clone());
        }
        let path = self.path()?;
        let directory = self.tree.client.read_dir(self.tree.place(path.as_path()), true)?;
        let listing = Arc::new(Listing::new(directory.entries));
        if self.tree.immutable {
            *self.listing.lock() = Some(listing.clone());
        }
        Ok(listing)
    }

    /// What is known of an entry without asking: `Some(None)` is a sure "no such entry".
    fn known(self: &Arc<Self>, name: &[u8]) -> Option<Option<Arc<GoferInode>>> {
        {
            let mut prefetched = self.prefetched.lock();
            if prefetched.as_ref().is_some_and(|known| known.name == name) {
                return prefetched.take().map(|known| known.inode);
            }
        }
        let listing = self.listing.lock().clone()?;
        match listing.by_name.get(name).and_then(|&at| listing.entries.get(at)) {
            None => Some(None),
            // An entry whose attributes are missing vanished while it was listed: ask.
            Some(entry) => entry.attr.map(|attr| Some(self.child(name, attr))),
        }
    }

    /// Whether `known` would have an answer.
    fn known_without_taking(&self, name: &[u8]) -> Option<()> {
        let prefetched = self.prefetched.lock();
        if prefetched.as_ref().is_some_and(|known| known.name == name) {
            return Some(());
        }
        drop(prefetched);
        self.listing.lock().as_ref().map(|_| ())
    }

    /// Walks `names` with one request, leaving what it learns where the lookups that follow find it.
    fn walk(self: &Arc<Self>, names: &[&[u8]]) -> SysResult<()> {
        let base = self.path()?;
        let path = TreePathBuf::from_names(names.iter().copied())?;
        // Nearly every file that is looked up is opened next; the descriptor comes along for nothing.
        let open = self.tree.immutable.then_some(OpenHow::READ);
        let place = self.tree.place(base.as_path());
        let reply = self.tree.client.walk(place, path.as_path(), open, 0)?;
        let mut dir = self.clone();
        let mut last = None;
        for (name, attr) in names.iter().zip(&reply.attrs) {
            let inode = dir.child(name, *attr);
            let known = Prefetched { name: name.to_vec(), inode: Some(inode.clone()) };
            drop(dir.prefetched.lock().replace(known));
            dir = inode.clone();
            last = Some(inode);
        }
        match (reply.end, last) {
            (WalkEnd::Symlink(target), Some(link)) => link.set_target(target),
            (WalkEnd::Missing, _) => {
                if let Some(name) = names.get(reply.attrs.len()) {
                    let known = Prefetched { name: name.to_vec(), inode: None };
                    drop(dir.prefetched.lock().replace(known));
                }
            }
            (WalkEnd::Failed(errno), None) => return Err(errno.into()),
            (WalkEnd::Complete, Some(file)) => {
                if let Some(Ok(descriptor)) = reply.file {
                    file.keep(&Arc::new(descriptor));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(self: &Arc<Self>, name: &[u8]) -> SysResult<Arc<GoferInode>> {
        let known = match self.known(name) {
            Some(known) => known,
            None => {
                self.walk(&[name])?;
                self.known(name).ok_or(Errno::EIO)?
            }
        };
        known.ok_or(Errno::ENOENT.into())
    }

    fn path_of(&self, name: &[u8]) -> SysResult<TreePathBuf> {
        let mut path = self.path()?;
        path.push(name)?;
        Ok(path)
    }

    /// The new entry `name`, of which `attr` just came; what was listed before is out of date.
    fn made(self: &Arc<Self>, name: &[u8], attr: Attr) -> Arc<dyn Inode> {
        self.forget_listing();
        self.child(name, attr)
    }

    fn forget_listing(&self) {
        let listing = self.listing.lock().take();
        let prefetched = self.prefetched.lock().take();
        drop((listing, prefetched));
    }
}

fn owner(new: &Creation) -> Option<Owner> {
    Some(Owner { uid: new.uid, gid: new.gid })
}

/// The inode as one of this file system's. VFS gives no others.
fn ours(inode: &Arc<dyn Inode>) -> SysResult<Arc<GoferInode>> {
    let any: Arc<dyn Any + Send + Sync> = inode.clone();
    any.downcast().map_err(|_| Errno::EXDEV.into())
}

impl DirOps for GoferInode {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        Ok(self.strong()?.entry(name)?)
    }

    fn revalidate(&self, name: &[u8], cached: Option<&Arc<dyn Inode>>) -> bool {
        let Ok(this) = self.strong() else { return false };
        let now = match this.entry(name) {
            Ok(now) => Some(now),
            Err(SysError::Errno(Errno::ENOENT)) => None,
            Err(_) => return false,
        };
        let same = match (cached, &now) {
            (None, None) => true,
            (Some(cached), Some(now)) => ours(cached).is_ok_and(|cached| cached.is_still(now)),
            _ => false,
        };
        if !same {
            // The lookup that follows need not ask again.
            drop(this.prefetched.lock().replace(Prefetched { name: name.to_vec(), inode: now }));
        }
        same
    }

    fn create(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let path = self.path_of(name)?;
        let place = self.tree.place(path.as_path());
        let opened = self.tree.client.create(place, new.mode, owner(new), OpenHow::READ_WRITE)?;
        let this = self.strong()?;
        this.forget_listing();
        let inode = this.child(name, opened.attr);
        inode.keep_made(opened.file);
        Ok(inode)
    }

    fn mkdir(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let path = self.path_of(name)?;
        let attr = self.tree.client.mkdir(self.tree.place(path.as_path()), new.mode, owner(new))?;
        Ok(self.strong()?.made(name, attr))
    }

    fn mknod(
        &self,
        name: &[u8],
        kind: FileType,
        _rdev: u64,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        let kind = match kind {
            FileType::Regular => NodeKind::Regular,
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            _ => return err!(EPERM),
        };
        let path = self.path_of(name)?;
        let place = self.tree.place(path.as_path());
        let attr = self.tree.client.mknod(place, kind, new.mode, owner(new))?;
        Ok(self.strong()?.made(name, attr))
    }

    fn bind_socket(
        &self,
        name: &[u8],
        socket: Arc<dyn Any + Send + Sync>,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        let path = self.path_of(name)?;
        let place = self.tree.place(path.as_path());
        let attr = self.tree.client.mknod(place, NodeKind::Socket, new.mode, owner(new))?;
        let this = self.strong()?;
        this.forget_listing();
        let inode = this.child(name, attr);
        let _ = inode.bound.set(socket);
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let path = self.path_of(name)?;
        let place = self.tree.place(path.as_path());
        let attr = self.tree.client.symlink(place, target, owner(new))?;
        Ok(self.strong()?.made(name, attr))
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> SysResult<()> {
        let old = ours(inode)?;
        let (from, to) = (old.path()?, self.path_of(name)?);
        old.saw(self.tree.client.link(self.tree.place(from.as_path()), to.as_path())?);
        self.forget_listing();
        Ok(())
    }

    fn unlink(&self, name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        let path = self.path_of(name)?;
        self.tree.client.unlink(self.tree.place(path.as_path()))?;
        self.forget_listing();
        Ok(())
    }

    fn rmdir(&self, name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        let path = self.path_of(name)?;
        self.tree.client.rmdir(self.tree.place(path.as_path()))?;
        self.forget_listing();
        Ok(())
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> SysResult<()> {
        let mut wire = gofer_wire::RenameFlags::empty();
        if flags.contains(RenameFlags::WHITEOUT) {
            return err!(EINVAL);
        }
        wire.set(gofer_wire::RenameFlags::NO_REPLACE, flags.contains(RenameFlags::NOREPLACE));
        wire.set(gofer_wire::RenameFlags::EXCHANGE, flags.contains(RenameFlags::EXCHANGE));
        let to_dir = ours(new_dir)?;
        let (from, to) = (self.path_of(name)?, to_dir.path_of(new_name)?);
        self.tree.client.rename(self.tree.place(from.as_path()), to.as_path(), wire)?;
        self.forget_listing();
        to_dir.forget_listing();
        Ok(())
    }

    fn prefetch(&self, names: &[&[u8]]) {
        // A failure shows again when the name itself is looked up.
        if let (Ok(this), [first, _, ..]) = (self.strong(), names)
            && this.known_without_taking(first).is_none()
        {
            let _ = this.walk(names);
        }
    }

    fn renamed(&self, inode: &Arc<dyn Inode>, new_dir: &Arc<dyn Inode>, new_name: &[u8]) {
        if let (Ok(inode), Ok(dir)) = (ours(inode), ours(new_dir)) {
            inode.moved_to(&dir, new_name);
        }
    }
}

/// An open directory: the entries as they were when it was first read from its start.
pub(super) struct GoferDirFile {
    inode: Arc<GoferInode>,
    snapshot: Mutex<lock_order::Leaf, Option<Arc<Listing>>>,
}

impl GoferDirFile {
    pub(super) fn new(inode: Arc<GoferInode>) -> Self {
        Self { inode, snapshot: Mutex::new(None) }
    }
}

impl FileOps for GoferDirFile {
    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn iterate(
        &self,
        _file: &FileDescription,
        from: u64,
        sink: &mut DirSink<'_>,
    ) -> SysResult<u64> {
        let mut position = from;
        for (at, name) in [(0, b".".as_slice()), (1, b"..")] {
            if position == at {
                let ino =
                    if at == 0 { self.inode.cached_attr().ino } else { self.inode.parent_ino() };
                let kind = Some(FileType::Directory);
                if !sink(DirEntry { name, ino, kind, next: at + 1 }) {
                    return Ok(position);
                }
                position += 1;
            }
        }
        let known = if from == 0 { None } else { self.snapshot.lock().clone() };
        let listing = match known {
            Some(listing) => listing,
            None => {
                let listing = self.inode.list()?;
                *self.snapshot.lock() = Some(listing.clone());
                listing
            }
        };
        let skip = usize::try_from(position.saturating_sub(2)).unwrap_or(usize::MAX);
        for entry in listing.entries.iter().skip(skip) {
            let taken = sink(DirEntry {
                name: &entry.name,
                ino: entry.attr.map_or(entry.ino, |attr| attr.ino),
                kind: convert::kind(entry.kind),
                next: position + 1,
            });
            if !taken {
                break;
            }
            position += 1;
        }
        Ok(position)
    }

    fn sync(&self, _file: &FileDescription, data_only: bool) -> SysResult<()> {
        let path = self.inode.path()?;
        Ok(self.inode.tree.client.fsync(self.inode.tree.place(path.as_path()), data_only)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for GoferDirFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}
