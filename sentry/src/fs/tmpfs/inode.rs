//! Files of any kind.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, OnceLock},
};

use platform::PAGE_SIZE;
use ranked_sync::RwLock;

use super::{Shared, ShmemFile, directory::Directory, file::RegularOps};
use crate::{
    Errno, SysResult, err,
    fs::{dev, pipe},
    lock_order,
    vfs::{
        Creation, DirOps, FileOps, FileType, Inode, Metadata, SetAttr, TimeSpec, TimeUpdate,
        VfsPath, XattrSetMode,
    },
};

/// Names and values of one file's extended attributes together (`XATTR_LIST_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;

/// A file, directory, link or special file.
pub struct TmpfsInode {
    pub(super) shared: Arc<Shared>,
    pub(super) ino: u64,
    kind: FileType,
    attributes: RwLock<lock_order::Inode, Attributes>,
    pub(super) content: Content,
}

pub(super) struct Attributes {
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    pub(super) nlink: u32,
    atime: TimeSpec,
    mtime: TimeSpec,
    ctime: TimeSpec,
    btime: TimeSpec,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

pub(super) enum Content {
    Regular(Arc<ShmemFile>),
    Directory(RwLock<lock_order::Inode, Directory>),
    Symlink(Box<[u8]>),
    Fifo(OnceLock<Arc<pipe::Pipe>>),
    Socket(OnceLock<Arc<dyn Any + Send + Sync>>),
    Device { rdev: u64 },
}

impl TmpfsInode {
    pub(super) fn new_root(shared: &Arc<Shared>, mode: u32, uid: u32, gid: u32) -> Arc<Self> {
        let content = Content::Directory(RwLock::default());
        Self::build(
            shared,
            FileType::Directory,
            &Creation { mode, uid, gid },
            content,
            shared.new_ino(),
        )
    }

    /// A new inode, counted; `ENOSPC` when there may be no more.
    pub(super) fn new(
        shared: &Arc<Shared>,
        kind: FileType,
        new: &Creation,
        make: impl FnOnce(u64) -> Content,
    ) -> SysResult<Arc<Self>> {
        shared.charge_inode()?;
        let ino = shared.new_ino();
        Ok(Self::build(shared, kind, new, make(ino), ino))
    }

    fn build(
        shared: &Arc<Shared>,
        kind: FileType,
        new: &Creation,
        content: Content,
        ino: u64,
    ) -> Arc<Self> {
        let now = TimeSpec::now();
        let attributes = Attributes {
            mode: new.mode,
            uid: new.uid,
            gid: new.gid,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            xattrs: BTreeMap::new(),
        };
        let attributes = RwLock::new(attributes);
        Arc::new(Self { shared: shared.clone(), ino, kind, attributes, content })
    }

    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// The bytes, of a regular file.
    pub fn shmem(&self) -> Option<&Arc<ShmemFile>> {
        match &self.content {
            Content::Regular(file) => Some(file),
            _ => None,
        }
    }

    /// Content changed just now.
    pub(super) fn touch_modified(&self) {
        let now = TimeSpec::now();
        let mut attributes = self.attributes.write();
        attributes.mtime = now;
        attributes.ctime = now;
    }

    /// It was read just now. As `relatime` (mount(8)): the time is noted if it is older than the last
    /// change, or than a day.
    pub(super) fn touch_accessed(&self) {
        const DAY: i64 = 24 * 60 * 60;
        let now = TimeSpec::now();
        {
            let attributes = self.attributes.read();
            let fresh = attributes.atime > attributes.mtime && attributes.atime > attributes.ctime;
            if fresh && now.sec.saturating_sub(attributes.atime.sec) < DAY {
                return;
            }
        }
        self.attributes.write().atime = now;
    }

    /// Adds to the number of names, or takes away; its ctime is now. `EMLINK` at the top.
    pub(super) fn change_links(&self, by: i32) -> SysResult<()> {
        let mut attributes = self.attributes.write();
        attributes.nlink = attributes.nlink.checked_add_signed(by).ok_or(Errno::EMLINK)?;
        attributes.ctime = TimeSpec::now();
        Ok(())
    }

    pub(super) fn links(&self) -> u32 {
        self.attributes.read().nlink
    }

    fn size_and_blocks(&self) -> (u64, u64) {
        match &self.content {
            Content::Regular(file) => (file.size(), file.blocks()),
            Content::Directory(entries) => (entries.read().size(), 0),
            Content::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        }
    }
}

impl Inode for TmpfsInode {
    fn metadata(&self) -> SysResult<Metadata> {
        let (size, blocks) = self.size_and_blocks();
        let attributes = self.attributes.read();
        Ok(Metadata {
            dev: self.shared.dev,
            ino: self.ino,
            mode: self.kind.mode_bits() | attributes.mode,
            nlink: attributes.nlink,
            uid: attributes.uid,
            gid: attributes.gid,
            rdev: if let Content::Device { rdev } = self.content { rdev } else { 0 },
            size,
            blksize: PAGE_SIZE as u32,
            blocks,
            atime: attributes.atime,
            mtime: attributes.mtime,
            ctime: attributes.ctime,
            btime: Some(attributes.btime),
        })
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        let now = TimeSpec::now();
        if let Some(size) = change.size {
            let Content::Regular(file) = &self.content else { return err!(EINVAL) };
            file.set_size(size)?;
        }
        let time = |update| match update {
            TimeUpdate::Now => now,
            TimeUpdate::To(time) => time,
        };
        let mut attributes = self.attributes.write();
        let attributes = &mut *attributes;
        attributes.mode = change.mode.map_or(attributes.mode, |mode| mode & 0o7777);
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        if change.size.is_some() {
            attributes.mtime = now;
        }
        attributes.atime = change.atime.map_or(attributes.atime, time);
        attributes.mtime = change.mtime.map_or(attributes.mtime, time);
        attributes.ctime = now;
        Ok(())
    }

    fn open(self: Arc<Self>, path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        match &self.content {
            Content::Regular(file) => {
                let file = file.clone();
                Ok(Box::new(RegularOps { inode: self, file }))
            }
            Content::Directory(_) => Ok(Box::new(super::directory::DirectoryOps { inode: self })),
            Content::Fifo(pipe) => pipe.get_or_init(pipe::Pipe::new_fifo).open(flags),
            Content::Device { rdev } => dev::open_device(self.kind, *rdev, path, flags),
            Content::Socket(_) => err!(ENXIO),
            Content::Symlink(_) => err!(ELOOP),
        }
    }

    fn as_dir(&self) -> Option<&dyn DirOps> {
        (self.kind == FileType::Directory).then_some(self)
    }

    fn read_link(&self) -> SysResult<Vec<u8>> {
        match &self.content {
            Content::Symlink(target) => Ok(target.to_vec()),
            _ => err!(EINVAL),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        supported(name)?;
        self.attributes.read().xattrs.get(name).cloned().ok_or(Errno::ENODATA.into())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrSetMode) -> SysResult<()> {
        supported(name)?;
        self.shared.memory.check_room()?;
        let mut attributes = self.attributes.write();
        let xattrs = &mut attributes.xattrs;
        match (mode, xattrs.contains_key(name)) {
            (XattrSetMode::Create, true) => return err!(EEXIST),
            (XattrSetMode::Replace, false) => return err!(ENODATA),
            _ => {}
        }
        let others: usize = xattrs
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(name, value)| name.len() + 1 + value.len())
            .sum();
        if others + name.len() + 1 + value.len() > XATTR_BYTES_MAX {
            return err!(ENOSPC);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        attributes.ctime = TimeSpec::now();
        Ok(())
    }

    fn list_xattr(&self) -> SysResult<Vec<u8>> {
        let attributes = self.attributes.read();
        Ok(attributes.xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> SysResult<()> {
        supported(name)?;
        let mut attributes = self.attributes.write();
        let removed = attributes.xattrs.remove(name).map(drop);
        if removed.is_some() {
            attributes.ctime = TimeSpec::now();
        }
        removed.ok_or(Errno::ENODATA.into())
    }

    fn bound_socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        match &self.content {
            Content::Socket(socket) => socket.get().cloned(),
            _ => None,
        }
    }
}

/// Access control lists (`system.`) are not kept.
fn supported(name: &[u8]) -> SysResult<()> {
    let known = [&b"user."[..], b"trusted.", b"security."];
    if known.iter().any(|prefix| name.starts_with(prefix)) { Ok(()) } else { err!(EOPNOTSUPP) }
}

impl Drop for TmpfsInode {
    fn drop(&mut self) {
        self.shared.uncharge_inodes(1);
        // A directory may be the top of a very deep tree: take it apart in a loop, not by recursion.
        let Content::Directory(entries) = &mut self.content else { return };
        let mut trees = mem::take(entries.get_mut()).into_inodes();
        while let Some(child) = trees.pop() {
            if let Some(mut child) = Arc::into_inner(child)
                && let Content::Directory(entries) = &mut child.content
            {
                trees.extend(mem::take(entries.get_mut()).into_inodes());
            }
        }
    }
}

impl fmt::Debug for TmpfsInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TmpfsInode({} {:?})", self.ino, self.kind)
    }
}
