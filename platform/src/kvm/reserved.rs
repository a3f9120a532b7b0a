//! Address space of this process that becomes guest-physical memory.

#![allow(unsafe_code, reason = "maps memory, and hands out words of it")]

use std::{ffi::c_void, os::fd::BorrowedFd, ptr, sync::atomic::AtomicU64};

use linux_abi::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::layout::PAGE;
use crate::host;

/// A mapping of its own, of whole pages.
#[derive(Debug)]
pub(super) struct Reserved {
    base: *mut c_void,
    len: u64,
}

// SAFETY: plain memory; all access goes through atomics, or by the guest.
unsafe impl Send for Reserved {}
// SAFETY: as above.
unsafe impl Sync for Reserved {}

impl Reserved {
    /// Zeroed memory that costs nothing until it is touched.
    pub(super) fn memory(len: u64) -> Result<Self, Errno> {
        Self::map(len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Addresses without memory.
    pub(super) fn addresses(len: u64) -> Result<Self, Errno> {
        Self::map(len, ProtFlags::empty())
    }

    fn map(len: u64, prot: ProtFlags) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address the kernel chooses.
        let mapped =
            unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len as usize, prot, flags) };
        let base = mapped.map_err(host::errno)?;
        // SAFETY: our own mapping; the advice changes no bytes.
        let _ = unsafe { rustix::mm::madvise(base, len as usize, Advice::LinuxDontDump) };
        Ok(Self { base, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The address in this process.
    pub(super) fn address(&self) -> u64 {
        self.base.expose_provenance() as u64
    }

    /// The words of the page at `offset`, of memory.
    pub(super) fn page(&self, offset: u64) -> &[AtomicU64] {
        let inside = offset.is_multiple_of(PAGE) && offset < self.len;
        let (offset, count) = if inside { (offset as usize, PAGE as usize / 8) } else { (0, 0) };
        let start = self.base.wrapping_byte_add(offset).cast::<AtomicU64>();
        // SAFETY: whole pages inside the mapping, which lives as long as `self`; atomics may be
        // changed by others.
        unsafe { std::slice::from_raw_parts(start, count) }
    }

    /// Maps `len` bytes of a file at `at`, or nothing there.
    pub(super) fn put(
        &self,
        at: u64,
        len: u64,
        file: Option<(BorrowedFd<'_>, u64, bool)>,
        writable: bool,
    ) -> Result<(), Errno> {
        if at.checked_add(len).is_none_or(|end| end > self.len) || !(at | len).is_multiple_of(PAGE)
        {
            return Err(Errno::EINVAL);
        }
        let place = self.base.wrapping_byte_add(at as usize);
        let len = len as usize;
        // SAFETY: whole pages inside our own mapping, of which nobody holds references: it was made
        // without memory, and is reached by the guest and by host calls only.
        let mapped = unsafe {
            match file {
                Some((fd, offset, shared)) => {
                    let sharing = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
                    let flags = sharing | MapFlags::FIXED | MapFlags::NORESERVE;
                    let mut prot = ProtFlags::READ;
                    prot.set(ProtFlags::WRITE, writable);
                    rustix::mm::mmap(place, len, prot, flags, fd, offset)
                }
                None => {
                    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
                    rustix::mm::mmap_anonymous(place, len, ProtFlags::empty(), flags)
                }
            }
        };
        mapped.map(drop).map_err(host::errno)
    }

    /// Lets a file mapping there be written.
    pub(super) fn make_writable(&self, at: u64, len: u64) -> Result<(), Errno> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Errno::EINVAL);
        }
        let place = self.base.wrapping_byte_add(at as usize);
        let prot = rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE;
        // SAFETY: our own mapping, as in `put`.
        unsafe { rustix::mm::mprotect(place, len as usize, prot) }.map_err(host::errno)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and what is handed out borrows from it.
        let _ = unsafe { rustix::mm::munmap(self.base, self.len as usize) };
    }
}
