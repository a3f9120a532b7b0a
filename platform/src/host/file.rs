//! What is asked of a donated descriptor beside reading and writing.

use std::os::fd::BorrowedFd;

use linux_abi::Errno;
use rustix::fs::{self, FallocateFlags, SeekFrom};

use super::errno;

/// Bytes in the file (fstat(2)).
pub fn file_size(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    fs::fstat(fd).map(|stat| stat.st_size as u64).map_err(errno)
}

/// The first data at or behind `offset` (lseek(2), SEEK_DATA). Moves the descriptor's own position,
/// which nobody uses.
pub fn seek_data(fd: BorrowedFd<'_>, offset: u64) -> Result<u64, Errno> {
    fs::seek(fd, SeekFrom::Data(offset)).map_err(errno)
}

/// The first hole at or behind `offset` (lseek(2), SEEK_HOLE).
pub fn seek_hole(fd: BorrowedFd<'_>, offset: u64) -> Result<u64, Errno> {
    fs::seek(fd, SeekFrom::Hole(offset)).map_err(errno)
}

/// fsync(2), or fdatasync(2).
pub fn sync_file(fd: BorrowedFd<'_>, data_only: bool) -> Result<(), Errno> {
    if data_only { fs::fdatasync(fd) } else { fs::fsync(fd) }.map_err(errno)
}

/// fallocate(2).
pub fn allocate(fd: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
    fs::fallocate(fd, mode, offset, len).map_err(errno)
}
