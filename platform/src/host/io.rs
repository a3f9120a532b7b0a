//! Reading and writing host files straight to and from guest memory.
//!
//! # Safety
//! A [`VolatileSlice`] is mapped for as long as it lives; the kernel copies as a
//! concurrent writer would, which is what a guest may do anyway.

#![allow(unsafe_code, reason = "passes iovecs of guest memory to the host")]

use std::os::fd::{AsRawFd, BorrowedFd};

use linux_abi::Errno;
use smallvec::SmallVec;

use crate::memory::VolatileSlice;

/// The most slices the host takes in one call (`UIO_MAXIOV`); the rest is left for the
/// next call, as in any short read.
const IOV_MAX: usize = 1024;

type IoVec = SmallVec<[libc::iovec; 8]>;

fn iovecs(slices: &[VolatileSlice<'_>]) -> IoVec {
    let entry =
        |s: &VolatileSlice<'_>| libc::iovec { iov_base: s.as_ptr().cast(), iov_len: s.len() };
    slices.iter().take(IOV_MAX).map(entry).collect()
}

fn result(n: isize) -> Result<usize, Errno> {
    usize::try_from(n).map_err(|_| Errno::from(std::io::Error::last_os_error()))
}

/// The offset by which preadv2(2) and pwritev2(2) are told to use the file's position.
const NO_OFFSET: i64 = -1;

/// preadv2(2), for all kinds of reading: one call that the filter lists.
pub(super) fn read(
    fd: BorrowedFd<'_>,
    to: &[VolatileSlice<'_>],
    offset: Option<u64>,
    flags: i32,
) -> Result<usize, Errno> {
    let (iov, offset) = (iovecs(to), host_offset(offset)?);
    // SAFETY: the iovecs describe slices that stay mapped for the call.
    result(unsafe { libc::preadv2(fd.as_raw_fd(), iov.as_ptr(), iov.len() as i32, offset, flags) })
}

/// pwritev2(2), for all kinds of writing.
pub(super) fn write(
    fd: BorrowedFd<'_>,
    from: &[VolatileSlice<'_>],
    offset: Option<u64>,
    flags: i32,
) -> Result<usize, Errno> {
    let (iov, offset) = (iovecs(from), host_offset(offset)?);
    // SAFETY: the iovecs describe slices that stay mapped for the call.
    result(unsafe { libc::pwritev2(fd.as_raw_fd(), iov.as_ptr(), iov.len() as i32, offset, flags) })
}

fn host_offset(offset: Option<u64>) -> Result<i64, Errno> {
    let at = |offset| i64::try_from(offset).map_err(|_| Errno::EINVAL);
    offset.map_or(Ok(NO_OFFSET), at)
}

/// preadv(2): bytes from `offset` of the file into the slices. 0 at the end.
pub fn preadv(fd: BorrowedFd<'_>, to: &[VolatileSlice<'_>], offset: u64) -> Result<usize, Errno> {
    read(fd, to, Some(offset), 0)
}

/// pwritev(2): bytes of the slices to `offset` of the file.
pub fn pwritev(
    fd: BorrowedFd<'_>,
    from: &[VolatileSlice<'_>],
    offset: u64,
) -> Result<usize, Errno> {
    write(fd, from, Some(offset), 0)
}

/// readv(2), for what has no offset.
pub fn readv(fd: BorrowedFd<'_>, to: &[VolatileSlice<'_>]) -> Result<usize, Errno> {
    read(fd, to, None, 0)
}

/// writev(2), for what has no offset.
pub fn writev(fd: BorrowedFd<'_>, from: &[VolatileSlice<'_>]) -> Result<usize, Errno> {
    write(fd, from, None, 0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::memory::MemoryFile;

    #[test]
    fn bytes_go_from_and_to_guest_memory() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(8192, None).unwrap();
        let slice = memory.slice(range);
        slice.copy_from(b"hello world");
        let file = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let parts = [slice.sub(6, 5), slice.sub(0, 5)];
        assert_eq!(pwritev(file.as_fd(), &parts, 3), Ok(10));
        assert_eq!(preadv(file.as_fd(), &[slice.sub(4096, 100)], 0), Ok(13));
        let mut read = [0; 13];
        slice.sub(4096, 13).copy_to(&mut read);
        assert_eq!(&read, b"\0\0\0worldhello");
        assert_eq!(preadv(file.as_fd(), &parts, u64::MAX), Err(Errno::EINVAL));
    }
}
