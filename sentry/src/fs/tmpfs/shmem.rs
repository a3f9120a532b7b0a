//! File contents in the memory file: sparse pages that can be read, written and mapped
//! (`mm/shmem.c`). What tmpfs, memfds, shared memory and an overlay's changed files are made of.
//!
//! User memory is never touched with the file's lock held: the buffer may be a mapping of this
//! very file. Large transfers pin the user's pages first and copy memory to memory below the lock, or have the host copy
//! to new memory, which spares a page fault for each page; small ones go through a buffer on the stack.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use platform::{
    Backing, PAGE_SIZE,
    memory::{FileRange, MemoryFile, VolatileSlice},
};
use ranked_sync::RwLock;

use super::extents::Extents;
use crate::{
    Errno, SysResult, err, lock_order,
    mm::MappingSet,
    vfs::{IoDst, IoSrc, Mappable},
};

/// Transfers up to this size go over the stack.
const SMALL: usize = 2048;
/// Pieces from this size on are copied by the host: it may be that they are not mapped here yet, and it takes no page fault.
const BULK: usize = 16 << 10;
/// How much is copied with the lock held once.
const CHUNK: usize = 4 << 20;
/// A fault on a hole fills so much around it, at most.
const FAULT_FILL: u64 = 256 << 10;
/// The largest file (`MAX_LFS_FILESIZE`).
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// How many pages files may use together (the `size=` of a tmpfs).
#[derive(Debug)]
pub struct PageQuota {
    limit: AtomicU64,
    used: AtomicU64,
    /// What is used here is used there too.
    within: Option<Arc<PageQuota>>,
}

impl PageQuota {
    /// `limit` in pages.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit: AtomicU64::new(limit), used: AtomicU64::new(0), within: None })
    }

    /// A part of `outer`, of `limit` pages at most.
    pub fn within(outer: &Arc<Self>, limit: u64) -> Arc<Self> {
        let (limit, used) = (AtomicU64::new(limit), AtomicU64::new(0));
        Arc::new(Self { limit, used, within: Some(outer.clone()) })
    }

    /// Pages that are free in what this is a part of.
    pub fn free_outside(&self) -> u64 {
        self.within.as_ref().map_or(u64::MAX, |outer| outer.limit().saturating_sub(outer.used()))
    }

    /// Only what the memory file allows.
    pub fn unlimited() -> Arc<Self> {
        Self::new(u64::MAX)
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Changes the limit; `EINVAL` below what is used.
    pub fn set_limit(&self, limit: u64) -> SysResult<()> {
        if limit < self.used() {
            return err!(EINVAL);
        }
        self.limit.store(limit, Ordering::Relaxed);
        Ok(())
    }

    /// `ENOSPC` over the limit.
    pub(super) fn charge(&self, pages: u64) -> Result<(), Errno> {
        if let Some(outer) = &self.within {
            outer.charge(pages)?;
        }
        let limit = self.limit();
        let charged = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(pages).filter(|&sum| sum <= limit)
            })
            .map(drop)
            .map_err(|_| Errno::ENOSPC);
        if charged.is_err()
            && let Some(outer) = &self.within
        {
            outer.uncharge(pages);
        }
        charged
    }

    pub(super) fn uncharge(&self, pages: u64) {
        if let Some(outer) = &self.within {
            outer.uncharge(pages);
        }
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            Some(used.saturating_sub(pages))
        });
    }
}

/// The bytes of a regular file.
pub struct ShmemFile {
    memory: Arc<MemoryFile>,
    quota: Arc<PageQuota>,
    data: RwLock<lock_order::Inode, Extents>,
    /// Changed with `data` locked; read without.
    size: AtomicU64,
    mappings: MappingSet,
    /// Device and inode number.
    identity: (u64, u64),
    /// F_SEAL_ bits (memfd_create(2)).
    seals: AtomicU32,
}

impl ShmemFile {
    /// An empty file that allows no seals. `identity`: device and inode number, for shared futexes.
    pub fn new(memory: Arc<MemoryFile>, quota: Arc<PageQuota>, identity: (u64, u64)) -> Arc<Self> {
        Arc::new(Self {
            memory,
            quota,
            data: RwLock::default(),
            size: AtomicU64::new(0),
            mappings: MappingSet::default(),
            identity,
            seals: AtomicU32::new(libc::F_SEAL_SEAL as u32),
        })
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Memory in use, in units of 512 bytes.
    pub fn blocks(&self) -> u64 {
        self.data.read().pages() * (PAGE_SIZE / 512)
    }

    pub fn seals(&self) -> u32 {
        self.seals.load(Ordering::Acquire)
    }

    /// Replaces the seals; the rules are the caller's (`F_ADD_SEALS`). Waits for a write that is under way.
    pub fn set_seals(&self, seals: u32) {
        let _data = self.data.write();
        self.seals.store(seals, Ordering::Release);
    }

    fn sealed(&self, seal: libc::c_int) -> bool {
        self.seals() & seal as u32 != 0
    }

    fn sealed_against_writing(&self) -> bool {
        self.sealed(libc::F_SEAL_WRITE) || self.sealed(libc::F_SEAL_FUTURE_WRITE)
    }

    /// Reads at `offset`; 0 at the end.
    pub fn read_at(&self, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let mut total = 0;
        while !dst.is_empty() {
            let at = offset.saturating_add(total as u64);
            let left = usize::try_from(self.size().saturating_sub(at)).unwrap_or(usize::MAX);
            let want = dst.len().min(left).min(CHUNK);
            if want == 0 {
                break;
            }
            let done = if want <= SMALL {
                let mut buffer = [0; SMALL];
                let buffer = buffer.get_mut(..want).unwrap_or_default();
                let n = self.read_bytes(at, buffer);
                dst.put(buffer.get(..n).unwrap_or_default())
            } else {
                dst.fill_with(want, &mut |slices| Ok(self.read_slices(at, slices)))
            };
            match done {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(total)
    }

    /// Reads into a buffer of the sentry's own; how many bytes there were.
    pub fn read_bytes(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let data = self.data.read();
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        let mut done = 0;
        data.each_run(offset, want as u64, |range, len| {
            let Some(to) = buffer.get_mut(done..done + len as usize) else { return };
            match range {
                Some(range) => {
                    self.memory.slice(range).copy_to(to);
                }
                None => to.fill(0),
            }
            done += to.len();
        });
        done
    }

    fn read_slices(&self, offset: u64, slices: &[VolatileSlice<'_>]) -> usize {
        let data = self.data.read();
        let room = slices.iter().map(VolatileSlice::len).sum::<usize>() as u64;
        let want = room.min(self.size().saturating_sub(offset));
        let mut to = Cursor::new(slices);
        data.each_run(offset, want, |range, len| match range {
            Some(range) => to.each(len as usize, |at, slice| {
                let from = self.memory.slice(range);
                slice.copy_from_slice(&from.sub(at, slice.len()));
            }),
            None => to.each(len as usize, |_, slice| slice.fill(0)),
        });
        want as usize
    }

    /// Writes at `offset`, growing the file as needed. `ENOSPC` when nothing fits.
    pub fn write_at(&self, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        self.write_from(&mut |_| offset, src).map(|(_, n)| n)
    }

    /// Writes at the end, wherever that is now: where it wrote, and how much.
    pub fn append(&self, src: &mut IoSrc<'_>) -> SysResult<(u64, usize)> {
        self.write_from(&mut |size| size, src)
    }

    fn write_from(
        &self,
        place: &mut dyn FnMut(u64) -> u64,
        src: &mut IoSrc<'_>,
    ) -> SysResult<(u64, usize)> {
        let mut total = 0;
        let mut start = None;
        while !src.is_empty() {
            let want = src.len().min(CHUNK);
            let mut at = |size| *start.get_or_insert_with(|| place(size)) + total as u64;
            let done = if want <= SMALL {
                let mut buffer = [0; SMALL];
                let buffer = buffer.get_mut(..want).unwrap_or_default();
                match src.take(buffer) {
                    Ok(n) => self.write_with(&mut at, n, &mut |to, _, from| {
                        let to = self.memory.slice(to);
                        to.copy_from(buffer.get(from..).unwrap_or_default());
                        Ok(())
                    }),
                    Err(errno) => Err(errno),
                }
            } else {
                src.drain_with(want, &mut |slices| {
                    let room = slices.iter().map(VolatileSlice::len).sum::<usize>();
                    let mut from = Cursor::new(slices);
                    self.write_with(&mut at, room, &mut |to, is_new, _| {
                        from.try_each(to.len() as usize, |at, slice| {
                            let to = to.sub(at as u64, slice.len() as u64);
                            if is_new || slice.len() >= BULK {
                                return self.memory.write(to, slice);
                            }
                            self.memory.slice(to).copy_from_slice(&slice);
                            Ok(())
                        })
                    })
                })
            };
            match done {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        let start = start.unwrap_or_else(|| place(self.size()));
        Ok((start, total))
    }

    /// Makes `len` bytes at `place(size)` writable and calls `copy` for each piece, with whether some of it is new
    /// memory, and its distance from there.
    fn write_with(
        &self,
        place: &mut dyn FnMut(u64) -> u64,
        len: usize,
        copy: &mut dyn FnMut(FileRange, bool, usize) -> Result<(), Errno>,
    ) -> Result<usize, Errno> {
        let mut data = self.data.write();
        if self.sealed_against_writing() {
            return Err(Errno::EPERM);
        }
        let size = self.size();
        let offset = place(size);
        let mut len = (len as u64).min(MAX_FILE_SIZE.checked_sub(offset).ok_or(Errno::EFBIG)?);
        if self.sealed(libc::F_SEAL_GROW) && offset.saturating_add(len) > size {
            len = size.checked_sub(offset).filter(|&left| left > 0).ok_or(Errno::EPERM)?;
        }
        let pages = data.pages();
        let len = data.fill(&self.memory, &self.quota, offset, len)?;
        let is_new = data.pages() > pages;
        let mut done = 0;
        let mut copied = Ok(());
        data.each_run(offset, len, |range, n| {
            if copied.is_err() {
                return;
            }
            copied = range.map_or(Ok(()), |range| copy(range, is_new, done));
            if copied.is_ok() {
                done += n as usize;
            }
        });
        if done == 0 {
            copied?;
        }
        let end = offset + done as u64;
        if end > size {
            self.size.store(end, Ordering::Release);
        }
        Ok(done)
    }

    /// Cuts the file, or lets it grow by a hole (ftruncate(2)).
    pub fn set_size(&self, size: u64) -> SysResult<()> {
        if size > MAX_FILE_SIZE {
            return err!(EFBIG);
        }
        let shrunk = {
            let mut data = self.data.write();
            let old = self.size();
            if (size < old && self.sealed(libc::F_SEAL_SHRINK))
                || (size > old && self.sealed(libc::F_SEAL_GROW))
            {
                return err!(EPERM);
            }
            self.size.store(size, Ordering::Release);
            if size < old {
                let whole = page_up(size);
                data.remove(&self.memory, &self.quota, whole, u64::MAX);
                // What was behind the end must read as zero should the file grow again.
                data.zero(&self.memory, size, whole - size);
            }
            size < old
        };
        if shrunk {
            self.mappings.invalidate(page_up(size)..!(PAGE_SIZE - 1), true);
        }
        Ok(())
    }

    /// Gives the bytes back; they read as zero. The size stays (FALLOC_FL_PUNCH_HOLE).
    pub fn punch_hole(&self, offset: u64, len: u64) -> SysResult<()> {
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let (first, last) = (page_up(offset), end & !(PAGE_SIZE - 1));
        {
            let mut data = self.data.write();
            if self.sealed_against_writing() {
                return err!(EPERM);
            }
            if first < last {
                data.zero(&self.memory, offset, first - offset);
                data.remove(&self.memory, &self.quota, first, last);
                data.zero(&self.memory, last, end - last);
            } else {
                data.zero(&self.memory, offset, len);
            }
        }
        if first < last {
            self.mappings.invalidate(first..last, false);
        }
        Ok(())
    }

    /// Gives memory to the range (fallocate(2)); the file grows to its end unless `keep_size`.
    pub fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> SysResult<()> {
        let end =
            offset.checked_add(len).filter(|&end| end <= MAX_FILE_SIZE).ok_or(Errno::EFBIG)?;
        let mut data = self.data.write();
        if !keep_size && end > self.size() && self.sealed(libc::F_SEAL_GROW) {
            return err!(EPERM);
        }
        let pages = (page_up(end) - (offset & !(PAGE_SIZE - 1))) / PAGE_SIZE;
        if pages > self.quota.limit() {
            return err!(ENOSPC);
        }
        if data.fill(&self.memory, &self.quota, offset, len)? < len {
            return err!(ENOSPC);
        }
        if !keep_size && end > self.size() {
            self.size.store(end, Ordering::Release);
        }
        Ok(())
    }

    /// The next byte at or after `offset` that is data (SEEK_DATA) or in a hole (SEEK_HOLE; the end is one).
    /// `ENXIO` where there is none, or behind the end.
    pub fn seek(&self, offset: u64, data_wanted: bool) -> SysResult<u64> {
        let data = self.data.read();
        let size = self.size();
        if offset >= size {
            return err!(ENXIO);
        }
        let found = if data_wanted { data.next_data(offset) } else { Some(data.next_hole(offset)) };
        match found {
            Some(at) if at < size => Ok(at),
            _ if data_wanted => err!(ENXIO),
            _ => Ok(size),
        }
    }
}

impl Mappable for ShmemFile {
    fn pages(&self, offset: u64, len: u64, _shared: bool) -> SysResult<(Backing, u64)> {
        let end = page_up(self.size());
        if offset >= end {
            return err!(EFAULT);
        }
        let len = len.min(end - offset);
        if let Some(range) = self.data.read().run_at(offset, len) {
            self.memory.retain(range);
            return Ok((Backing::Memory(range), range.len()));
        }
        let mut data = self.data.write();
        let end = page_up(self.size());
        if offset >= end {
            return err!(EFAULT);
        }
        let len = len.min(end - offset);
        data.fill(&self.memory, &self.quota, offset, len.min(FAULT_FILL))?;
        let range = data.run_at(offset, len).ok_or(Errno::ENOMEM)?;
        self.memory.retain(range);
        Ok((Backing::Memory(range), range.len()))
    }

    fn identity(&self) -> (u64, u64) {
        self.identity
    }

    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn mappings(&self) -> Option<&MappingSet> {
        Some(&self.mappings)
    }
}

impl Drop for ShmemFile {
    fn drop(&mut self) {
        self.data.get_mut().remove(&self.memory, &self.quota, 0, u64::MAX);
    }
}

impl fmt::Debug for ShmemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShmemFile({} bytes)", self.size())
    }
}

/// Goes along a list of slices.
struct Cursor<'a, 'b> {
    slices: &'a [VolatileSlice<'b>],
    within: usize,
}

impl<'a, 'b> Cursor<'a, 'b> {
    fn new(slices: &'a [VolatileSlice<'b>]) -> Self {
        Self { slices, within: 0 }
    }

    /// As [`Self::try_each`], where nothing fails.
    fn each(&mut self, len: usize, mut f: impl FnMut(usize, VolatileSlice<'b>)) {
        let _: Result<(), Infallible> = self.try_each(len, |at, slice| {
            f(at, slice);
            Ok(())
        });
    }

    /// Calls `f` with each piece of the next `len` bytes and its distance from where it was.
    fn try_each<E>(
        &mut self,
        len: usize,
        mut f: impl FnMut(usize, VolatileSlice<'b>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        while done < len
            && let Some((first, rest)) = self.slices.split_first()
        {
            let n = (first.len() - self.within).min(len - done);
            f(done, first.sub(self.within, n))?;
            done += n;
            self.within += n;
            if self.within == first.len() {
                self.slices = rest;
                self.within = 0;
            }
        }
        Ok(())
    }
}

/// The next page boundary; the last one where there is none.
fn page_up(offset: u64) -> u64 {
    offset.checked_next_multiple_of(PAGE_SIZE).unwrap_or(!(PAGE_SIZE - 1))
}
