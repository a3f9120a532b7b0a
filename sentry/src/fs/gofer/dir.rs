//! Host directories.

use std::{any::Any, fmt, sync::Arc};

use gofer_wire::{Attr, OpenHow, Owner, TreePathBuf, WalkEnd, request::NodeKind};

use ranked_sync::Mutex;

use super::{convert, inode::GoferInode, listing::Listing};
use crate::{
    Errno, SysError, SysResult, err, lock_order,
    vfs::{
        Creation, DirEntry, DirOps, DirSink, FileDescription, FileOps, FileType, Inode, Intent,
        RenameFlags,
    },
};

/// What a walk further down learned about one entry of a directory, until it is asked for.
pub(super) struct Prefetched {
    name: Vec<u8>,
    /// `None`: there is no such entry.
    inode: Option<Arc<GoferInode>>,
}

impl GoferInode {
    /// What is known of an entry without asking: `Some(None)` is a sure "no such entry".
    fn known(self: &Arc<Self>, name: &[u8]) -> Option<Option<Arc<GoferInode>>> {
        {
            let mut prefetched = self.prefetched.lock();
            if prefetched.as_ref().is_some_and(|known| known.name == name) {
                return prefetched.take().map(|known| known.inode);
            }
        }
        let listing = self.listing.lock().clone()?;
        match listing.get(name) {
            None => Some(None),
            Some(entry) => match self.take_below(&listing, name) {
                Some(child) => Some(Some(child)),
                None => entry.attr.map(|attr| Some(self.child(name, *attr))),
            },
        }
    }

    /// Whether `known` would have an answer.
    fn knows(&self, name: &[u8]) -> bool {
        if self.prefetched.lock().as_ref().is_some_and(|known| known.name == name) {
            return true;
        }
        let listing = self.listing.lock().clone();
        listing.as_ref().is_some_and(|listing| {
            listing.get(name).is_none_or(|entry| entry.attr.is_some() || listing.has_below(name))
        })
    }

    /// Walks `names` with one request, leaving what it learns of all but the first where the lookups that follow find
    /// it. What it learns of the first is the result: `Some(None)` when there is no such entry.
    fn walk(
        self: &Arc<Self>,
        names: &[&[u8]],
        intent: Intent,
    ) -> SysResult<Option<Option<Arc<GoferInode>>>> {
        let base = self.path()?;
        let path = TreePathBuf::from_names(names.iter().copied())?;
        let open = match intent {
            // Nearly every file that is looked up is opened next; the descriptor comes along for nothing.
            _ if self.tree.immutable => Some(OpenHow::READ),
            Intent::Look => None,
            Intent::Read => Some(OpenHow::READ),
            Intent::Write => Some(OpenHow::READ_WRITE),
        };
        let place = self.tree.place(base.as_path());
        let reply = self.tree.client.walk(place, path.as_path(), open)?;
        if !self.tree.immutable {
            self.saw(reply.base);
        }
        let mut dir = self.clone();
        let (mut first, mut last) = (None, None);
        for (name, attr) in names.iter().zip(&reply.attrs) {
            let inode = dir.child(name, *attr);
            match first {
                None => first = Some(Some(inode.clone())),
                Some(_) => dir.leave(name, Some(inode.clone())),
            }
            dir = inode.clone();
            last = Some(inode);
        }
        match (reply.end, last) {
            (WalkEnd::Symlink(target), Some(link)) => link.set_target(target),
            (WalkEnd::Missing, _) => {
                dir.count_miss();
                match (first.is_some(), names.get(reply.attrs.len())) {
                    (false, _) => first = Some(None),
                    (true, Some(name)) => dir.leave(name, None),
                    (true, None) => {}
                }
            }
            (WalkEnd::Failed(errno), None) => return Err(errno.into()),
            (WalkEnd::Complete, Some(file)) => {
                if let Some(Ok(descriptor)) = reply.file {
                    file.keep_walked(Arc::new(descriptor), intent);
                }
            }
            _ => {}
        }
        Ok(first)
    }

    /// Leaves it for the lookup that follows.
    fn leave(&self, name: &[u8], inode: Option<Arc<GoferInode>>) {
        drop(self.prefetched.lock().replace(Prefetched { name: name.to_vec(), inode }));
    }

    fn entry(self: &Arc<Self>, name: &[u8]) -> SysResult<Arc<GoferInode>> {
        let known = match self.known(name) {
            Some(known) => known,
            None => {
                self.list_if_worth_it(name);
                if let Some(known) = self.known(name) {
                    return known.ok_or(Errno::ENOENT.into());
                }
                // Not by way of what is left for others: another lookup may leave its own there meanwhile.
                self.walk(&[name], Intent::Look)?.ok_or(Errno::EIO)?
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
        drop(listing);
        let prefetched = self.prefetched.lock().take();
        drop(prefetched);
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

    fn prefetch(&self, names: &[&[u8]], intent: Intent) {
        let (Ok(this), Some(first)) = (self.strong(), names.first()) else { return };
        if this.tree.immutable {
            if this.knows(first) {
                return;
            }
            this.list_if_worth_it(first);
            if this.knows(first) {
                return;
            }
        } else {
            // Nothing that an earlier walk left behind may answer this one.
            let before = this.prefetched.lock().take();
            drop(before);
        }
        // A failure shows again when the name itself is looked up.
        if let (Ok(Some(inode)), Some(name)) = (this.walk(names, intent), names.first()) {
            this.leave(name, inode);
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
    /// Fails with `EACCES` where the host lets the file server not read the directory, whatever the guest may
    /// do inside: one that not everybody may read is tried.
    pub(super) fn open(inode: Arc<GoferInode>) -> SysResult<Self> {
        if inode.cached_attr().mode & libc::S_IROTH == 0 {
            inode.list()?;
        }
        Ok(Self { inode, snapshot: Mutex::new(None) })
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
                name: entry.name,
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
