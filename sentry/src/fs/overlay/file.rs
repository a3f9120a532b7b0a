//! Open regular files: what is below until the first write, what is here from then on.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use super::{Shared, dir_file::ListedName, inode::OverlayInode};
use crate::{
    Errno, SysResult,
    fs::tmpfs::{allocate_shmem, seek_shmem},
    kernel::Credentials,
    vfs::{Dentry, FileDescription, FileOps, Inode, IoDst, IoSrc, Mappable, SeekFrom, VfsPath},
};

/// Opens a lower file or directory for reading.
pub(super) fn open_lower(
    shared: &Shared,
    lower: &Arc<dyn Inode>,
) -> SysResult<Arc<FileDescription>> {
    let path = VfsPath {
        mount: shared.lower_mount.clone(),
        dentry: Dentry::anonymous(Vec::new(), lower.clone()),
    };
    let ops = lower.clone().open(&path, libc::O_RDONLY as u32)?;
    Ok(FileDescription::new(ops, path, libc::O_RDONLY as u32, Credentials::root()))
}

/// The entries of a lower directory, without `.` and `..`.
pub(super) fn list(shared: &Shared, lower: &Arc<dyn Inode>) -> SysResult<Vec<ListedName>> {
    let dir = open_lower(shared, lower)?;
    let mut names = Vec::new();
    let mut position = 0;
    loop {
        let next = dir.ops().iterate(&dir, position, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push((entry.name.to_vec(), entry.ino, entry.kind));
            }
            true
        })?;
        if next == position {
            return Ok(names);
        }
        position = next;
    }
}

/// An open file. Sees a copy-up by another descriptor at once.
pub(super) struct OverlayFile {
    inode: Arc<OverlayInode>,
    lower: OnceLock<Arc<FileDescription>>,
}

impl OverlayFile {
    pub(super) fn new(inode: Arc<OverlayInode>) -> Self {
        Self { inode, lower: OnceLock::new() }
    }

    /// Opens the lower file now, while the open can still fail.
    pub(super) fn open(inode: Arc<OverlayInode>) -> SysResult<Self> {
        let file = Self::new(inode);
        if file.inode.upper_file().is_none() {
            file.lower()?;
        }
        Ok(file)
    }

    fn lower(&self) -> SysResult<&Arc<FileDescription>> {
        if let Some(lower) = self.lower.get() {
            return Ok(lower);
        }
        let lower = self.inode.lower.as_ref().ok_or(Errno::EIO)?;
        let lower = open_lower(&self.inode.shared, lower)?;
        Ok(self.lower.get_or_init(|| lower))
    }

    fn wrote(&self, n: usize) -> SysResult<()> {
        if n > 0 {
            self.inode.change_attrs(|attrs| attrs.touch())?;
        }
        Ok(())
    }
}

impl FileOps for OverlayFile {
    fn read(&self, _file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if let Some(upper) = self.inode.upper_file() {
            return upper.read_at(offset, dst);
        }
        let lower = self.lower()?;
        lower.ops().read(lower, offset, dst)
    }

    fn write(&self, _file: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        let n = self.inode.copy_up(u64::MAX)?.write_at(offset, src)?;
        self.wrote(n)?;
        Ok(n)
    }

    fn append(&self, _file: &FileDescription, src: &mut IoSrc<'_>) -> SysResult<(u64, usize)> {
        let (at, n) = self.inode.copy_up(u64::MAX)?.append(src)?;
        self.wrote(n)?;
        Ok((at, n))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        if let Some(upper) = self.inode.upper_file() {
            return seek_shmem(&upper, current, to);
        }
        let lower = self.lower()?;
        lower.ops().seek(lower, current, to)
    }

    /// A file opened for writing is copied up, so that a shared mapping of it can be written. A mapping
    /// made through a read-only descriptor keeps showing the lower content, as in Linux's overlay.
    fn mappable(&self, file: &FileDescription) -> Option<Arc<dyn Mappable>> {
        if file.is_writable() {
            return Some(self.inode.copy_up(u64::MAX).ok()?);
        }
        if let Some(upper) = self.inode.upper_file() {
            return Some(upper);
        }
        let lower = self.lower().ok()?;
        lower.ops().mappable(lower)
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn allocate(&self, _file: &FileDescription, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        allocate_shmem(&*self.inode.copy_up(u64::MAX)?, mode, offset, len)?;
        self.wrote(1)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for OverlayFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}
