//! Directories.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use ranked_sync::RwLock;

use super::{ShmemFile, TmpfsInode, inode::Content};
use crate::{
    Errno, SysResult, err,
    vfs::{
        self, Creation, DirEntry, DirOps, DirSink, FileDescription, FileOps, FileType, Inode,
        NameHash, RenameFlags, SeekFrom,
    },
};

/// Positions 0 and 1 are `.` and `..`.
const FIRST_POSITION: u64 = 2;
/// What an entry adds to `st_size` (`BOGO_DIRENT_SIZE`).
const ENTRY_SIZE: u64 = 20;

/// Entries by name, and by the order they came in.
#[derive(Debug, Default)]
pub(super) struct Directory {
    by_name: HashMap<Arc<[u8]>, (u64, Arc<TmpfsInode>), NameHash>,
    by_position: BTreeMap<u64, Arc<[u8]>>,
    last: u64,
    /// rmdir(2) has removed it: nothing comes in any more.
    is_dead: bool,
}

impl Directory {
    fn get(&self, name: &[u8]) -> Option<&Arc<TmpfsInode>> {
        self.by_name.get(name).map(|(_, inode)| inode)
    }

    fn insert(&mut self, name: &[u8], inode: Arc<TmpfsInode>) {
        let name: Arc<[u8]> = name.into();
        self.last = self.last.max(FIRST_POSITION) + 1;
        if let Some((old, _)) = self.by_name.insert(name.clone(), (self.last, inode)) {
            self.by_position.remove(&old);
        }
        self.by_position.insert(self.last, name);
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<TmpfsInode>> {
        let (position, inode) = self.by_name.remove(name)?;
        self.by_position.remove(&position);
        Some(inode)
    }

    /// Another inode for a name that is there.
    fn replace(&mut self, name: &[u8], inode: Arc<TmpfsInode>) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.1 = inode;
        }
    }

    fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn size(&self) -> u64 {
        (self.by_name.len() as u64 + 2) * ENTRY_SIZE
    }

    pub(super) fn into_inodes(self) -> Vec<Arc<TmpfsInode>> {
        self.by_name.into_values().map(|(_, inode)| inode).collect()
    }
}

impl TmpfsInode {
    fn directory(&self) -> SysResult<&RwLock<crate::lock_order::Inode, Directory>> {
        match &self.content {
            Content::Directory(entries) => Ok(entries),
            _ => err!(ENOTDIR),
        }
    }

    /// Makes an inode and enters it.
    fn add(
        &self,
        name: &[u8],
        kind: FileType,
        new: &Creation,
        make: impl FnOnce(u64) -> Content,
    ) -> SysResult<Arc<dyn Inode>> {
        let inode = Self::new(&self.shared, kind, new, make)?;
        self.enter(name, inode.clone())?;
        Ok(inode)
    }

    fn enter(&self, name: &[u8], inode: Arc<Self>) -> SysResult<()> {
        let is_dir = inode.kind() == FileType::Directory;
        {
            let mut entries = self.directory()?.write();
            if entries.is_dead {
                return err!(ENOENT);
            }
            if entries.get(name).is_some() {
                return err!(EEXIST);
            }
            entries.insert(name, inode);
        }
        if is_dir {
            self.change_links(1)?;
        }
        self.touch_modified();
        Ok(())
    }

    /// Takes an entry out; what it stood for loses a name.
    fn take_out(&self, name: &[u8]) -> SysResult<()> {
        let gone = self.directory()?.write().remove(name).ok_or(Errno::ENOENT)?;
        self.lost(&gone)?;
        self.touch_modified();
        Ok(())
    }

    /// `gone` is no longer an entry of this directory.
    fn lost(&self, gone: &Arc<Self>) -> SysResult<()> {
        if gone.kind() == FileType::Directory {
            gone.change_links(-2)?;
            self.change_links(-1)
        } else {
            gone.change_links(-1)?;
            if gone.links() > 0 {
                self.shared.uncharge_inodes(1);
            }
            Ok(())
        }
    }

    /// The directory is being removed: from now on nothing can be made in it. `ENOTEMPTY`.
    fn kill(&self) -> SysResult<()> {
        let mut entries = self.directory()?.write();
        if !entries.is_empty() {
            return err!(ENOTEMPTY);
        }
        entries.is_dead = true;
        Ok(())
    }
}

/// The inode as one of ours.
fn ours(inode: &Arc<dyn Inode>) -> SysResult<Arc<TmpfsInode>> {
    let any: Arc<dyn Any + Send + Sync> = inode.clone();
    any.downcast().map_err(|_| Errno::EXDEV.into())
}

impl DirOps for TmpfsInode {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let found = self.directory()?.read().get(name).cloned();
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    fn missing_is_cheap(&self) -> bool {
        true
    }

    fn create(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        self.add(name, FileType::Regular, new, |ino| self.new_file(ino))
    }

    fn create_unnamed(&self, new: &Creation) -> SysResult<Arc<dyn Inode>> {
        let inode = Self::new(&self.shared, FileType::Regular, new, |ino| self.new_file(ino))?;
        inode.change_links(-1)?;
        Ok(inode)
    }

    fn mkdir(&self, name: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        self.add(name, FileType::Directory, new, |_| Content::Directory(RwLock::default()))
    }

    fn mknod(
        &self,
        name: &[u8],
        kind: FileType,
        rdev: u64,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        self.add(name, kind, new, |ino| match kind {
            FileType::Fifo => Content::Fifo(OnceLock::new()),
            FileType::Socket => Content::Socket(OnceLock::new()),
            FileType::Regular => self.new_file(ino),
            _ => Content::Device { rdev },
        })
    }

    fn bind_socket(
        &self,
        name: &[u8],
        socket: Arc<dyn Any + Send + Sync>,
        new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        self.add(name, FileType::Socket, new, |_| Content::Socket(OnceLock::from(socket)))
    }

    fn symlink(&self, name: &[u8], target: &[u8], new: &Creation) -> SysResult<Arc<dyn Inode>> {
        self.add(name, FileType::Symlink, new, |_| Content::Symlink(target.into()))
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> SysResult<()> {
        let inode = ours(inode)?;
        // A name more of a file that has one already is counted as an inode, as in Linux.
        let counted = inode.links() > 0;
        if counted {
            self.shared.charge_inode()?;
        }
        let entered = inode.change_links(1).and_then(|()| {
            self.enter(name, inode.clone()).inspect_err(|_| {
                let _ = inode.change_links(-1);
            })
        });
        if entered.is_err() && counted {
            self.shared.uncharge_inodes(1);
        }
        entered
    }

    fn unlink(&self, name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        self.take_out(name)
    }

    fn rmdir(&self, name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        let victim = self.directory()?.read().get(name).cloned().ok_or(Errno::ENOENT)?;
        victim.kill()?;
        self.take_out(name)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> SysResult<()> {
        let new_dir = ours(new_dir)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.exchange(name, &new_dir, new_name);
        }
        let moved = self.directory()?.read().get(name).cloned().ok_or(Errno::ENOENT)?;
        let victim = new_dir.directory()?.read().get(new_name).cloned();
        if let Some(victim) = &victim
            && victim.kind() == FileType::Directory
        {
            victim.kill()?;
        }
        let whiteout = if flags.contains(RenameFlags::WHITEOUT) {
            let new = Creation { mode: 0, uid: 0, gid: 0 };
            let device = |_| Content::Device { rdev: 0 };
            Some(Self::new(&self.shared, FileType::CharDevice, &new, device)?)
        } else {
            None
        };
        {
            let mut entries = new_dir.directory()?.write();
            if entries.is_dead {
                return err!(ENOENT);
            }
            entries.remove(new_name);
            entries.insert(new_name, moved.clone());
        }
        {
            let mut entries = self.directory()?.write();
            let same_place = std::ptr::eq(self, Arc::as_ptr(&new_dir)) && name == new_name;
            if !same_place {
                entries.remove(name);
            }
            if let Some(whiteout) = whiteout {
                entries.insert(name, whiteout);
            }
        }
        if let Some(victim) = &victim {
            new_dir.lost(victim)?;
        }
        if moved.kind() == FileType::Directory && !std::ptr::eq(self, Arc::as_ptr(&new_dir)) {
            self.change_links(-1)?;
            new_dir.change_links(1)?;
        }
        moved.change_links(0)?;
        self.touch_modified();
        new_dir.touch_modified();
        Ok(())
    }
}

impl TmpfsInode {
    fn new_file(&self, ino: u64) -> Content {
        let shared = &self.shared;
        Content::Regular(ShmemFile::new(
            shared.memory.clone(),
            shared.pages.clone(),
            (shared.dev, ino),
        ))
    }

    fn exchange(&self, name: &[u8], new_dir: &Arc<Self>, new_name: &[u8]) -> SysResult<()> {
        let one = self.directory()?.read().get(name).cloned().ok_or(Errno::ENOENT)?;
        let other = new_dir.directory()?.read().get(new_name).cloned().ok_or(Errno::ENOENT)?;
        self.directory()?.write().replace(name, other.clone());
        new_dir.directory()?.write().replace(new_name, one.clone());
        let dirs = |inode: &Arc<Self>| i32::from(inode.kind() == FileType::Directory);
        let gained = dirs(&other) - dirs(&one);
        if gained != 0 && !std::ptr::eq(self, Arc::as_ptr(new_dir)) {
            self.change_links(gained)?;
            new_dir.change_links(-gained)?;
        }
        for inode in [&one, &other] {
            inode.change_links(0)?;
        }
        self.touch_modified();
        new_dir.touch_modified();
        Ok(())
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct DirectoryOps {
    pub(super) inode: Arc<TmpfsInode>,
}

impl FileOps for DirectoryOps {
    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        vfs::seek_directory(current, to)
    }

    fn iterate(&self, file: &FileDescription, from: u64, sink: &mut DirSink<'_>) -> SysResult<u64> {
        self.inode.touch_accessed();
        let Some(mut position) = vfs::iterate_dots(file, from, sink)? else { return Ok(from) };
        if position < FIRST_POSITION {
            return Ok(position);
        }
        let entries = self.inode.directory()?.read();
        for (&at, name) in entries.by_position.range(position..) {
            let Some(inode) = entries.get(name) else { continue };
            let entry = DirEntry { name, ino: inode.ino, kind: Some(inode.kind()), next: at + 1 };
            if !sink(entry) {
                return Ok(position);
            }
            position = at + 1;
        }
        Ok(position)
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
