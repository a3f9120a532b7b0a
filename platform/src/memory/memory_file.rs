//! The memory file: a sparse memfd which holds all guest memory that is not a host
//! file, mapped whole in the sentry.
//!
//! Space is handed out in page ranges. A page is counted by how many mappings use it
//! (copy-on-write after fork, shared mappings, pins for I/O); when the last goes, its
//! bytes are given back to the host and read as zero from then on.

use std::os::fd::BorrowedFd;

use linux_abi::Errno;

use super::VolatileSlice;

/// Pages of the memory file: byte offsets `start..end`, whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileRange {
    pub start: u64,
    pub end: u64,
}

impl FileRange {
    /// Bytes in the range.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// True when there are none.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The part of `len` bytes from `offset` on; the caller knows it lies inside.
    pub const fn sub(self, offset: u64, len: u64) -> Self {
        Self { start: self.start + offset, end: self.start + offset + len }
    }
}

/// See the module. Shared by the whole sandbox; all methods may be called at any time.
#[derive(Debug)]
pub struct MemoryFile {}

impl MemoryFile {
    /// An empty file. `limit`: at most so many bytes in use, then ENOMEM.
    pub fn new(_limit: Option<u64>) -> Result<Self, Errno> {
        Err(Errno::ENOSYS)
    }

    /// A range of `len` bytes (whole pages) that reads as zero, counted once.
    /// Costs no memory until touched. `near`: put it right behind that offset if
    /// free, so that a growing mapping stays one mapping on the host.
    pub fn allocate(&self, _len: u64, _near: Option<u64>) -> Result<FileRange, Errno> {
        Err(Errno::ENOSYS)
    }

    /// Counts each page of the range once more.
    pub fn retain(&self, _range: FileRange) {}

    /// Counts each page once less; pages no one uses are given back.
    pub fn release(&self, _range: FileRange) {}

    /// True when each page of the range is counted exactly once.
    pub fn is_sole(&self, _range: FileRange) -> bool {
        false
    }

    /// Gives the bytes back; the range stays allocated and reads as zero
    /// (`madvise(MADV_DONTNEED)`). The caller is the only user.
    pub fn discard(&self, _range: FileRange) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// Commits host memory for the range now (fallocate), before it is populated.
    pub fn commit(&self, _range: FileRange) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// The bytes, mapped in this process. The caller holds a count on the range for
    /// as long as it uses the slice.
    pub fn slice(&self, _range: FileRange) -> VolatileSlice<'_> {
        unreachable!()
    }

    /// Bytes the host holds for the file now.
    pub fn used(&self) -> u64 {
        0
    }

    /// The descriptor, for mapping into stubs and for saving.
    pub fn fd(&self) -> BorrowedFd<'_> {
        unreachable!()
    }
}
