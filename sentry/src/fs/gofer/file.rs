//! Open host files: reads and writes go straight to the descriptor that the gofer donated.

use std::{
    any::Any,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use platform::{Backing, PAGE_SIZE, host};

use super::inode::GoferInode;
use crate::{
    Errno, SysResult, err,
    mm::WrittenParts,
    vfs::{FileDescription, FileOps, Inode, IoDst, IoSrc, Mappable, SeekFrom},
};

/// An open regular file.
pub(super) struct GoferFile {
    inode: Arc<GoferInode>,
    file: Arc<OwnedFd>,
    writable: bool,
}

impl GoferFile {
    pub(super) fn new(inode: Arc<GoferInode>, file: Arc<OwnedFd>, writable: bool) -> Self {
        Self { inode, file, writable }
    }
}

impl FileOps for GoferFile {
    fn read(&self, _file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let max = dst.len();
        Ok(dst.fill_with(max, &mut |slices| host::preadv(self.file.as_fd(), slices, offset))?)
    }

    fn write(&self, _file: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        let max = src.len();
        Ok(src.drain_with(max, &mut |slices| host::pwritev(self.file.as_fd(), slices, offset))?)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(by) => host::file_size(self.file.as_fd())?.checked_add_signed(by),
            SeekFrom::Data(at) => Some(host::seek_data(self.file.as_fd(), at)?),
            SeekFrom::Hole(at) => Some(host::seek_hole(self.file.as_fd(), at)?),
        };
        target.filter(|&at| at <= i64::MAX as u64).ok_or(Errno::EINVAL.into())
    }

    fn mappable(&self, _file: &FileDescription) -> Option<Arc<dyn Mappable>> {
        Some(Arc::new(GoferMapping { inode: self.inode.clone(), file: self.file.clone() }))
    }

    fn sync(&self, _file: &FileDescription, data_only: bool) -> SysResult<()> {
        if !self.writable {
            return Ok(());
        }
        Ok(host::sync_file(self.file.as_fd(), data_only)?)
    }

    fn allocate(&self, _file: &FileDescription, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        if !self.writable {
            return err!(EBADF);
        }
        Ok(host::allocate(self.file.as_fd(), mode, offset, len)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for GoferFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}

/// The pages of a host file: the host's own page cache, shared with everyone.
struct GoferMapping {
    inode: Arc<GoferInode>,
    file: Arc<OwnedFd>,
}

impl Mappable for GoferMapping {
    fn pages(&self, offset: u64, len: u64, shared: bool) -> SysResult<(Backing, u64)> {
        let end = self.likely_size().checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EOVERFLOW)?;
        if offset >= end {
            return err!(EFAULT);
        }
        let backing = Backing::Host { file: self.file.clone(), offset, shared };
        Ok((backing, len.min(end - offset)))
    }

    fn identity(&self) -> (u64, u64) {
        self.inode.metadata().map_or((0, 0), |meta| (meta.dev, meta.ino))
    }

    fn size(&self) -> u64 {
        host::file_size(self.file.as_fd()).unwrap_or(0)
    }

    fn likely_size(&self) -> u64 {
        self.inode.fixed_size().unwrap_or_else(|| self.size())
    }

    fn is_constant(&self) -> bool {
        self.inode.tree.immutable
    }

    fn written_parts(&self) -> Option<&WrittenParts> {
        self.inode.tree.immutable.then(|| &**self.inode.written_parts.get_or_init(Box::default))
    }

    fn sync_pages(&self, _offset: u64, _len: u64) -> SysResult<()> {
        // A shared mapping in the stub is the host's own; syncing the file covers it.
        Ok(host::sync_file(self.file.as_fd(), true)?)
    }
}

impl fmt::Debug for GoferMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}
