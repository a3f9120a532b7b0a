//! The memory file: a sparse memfd which holds all guest memory that is not a host
//! file, mapped whole in the sentry.
//!
//! Space is handed out in page ranges. A page is counted by how many mappings use it
//! (copy-on-write after fork, shared mappings, pins for I/O); when the last goes, it reads as zero from then on: it is
//! given back to the host, or zeroed and kept for a while for whoever needs pages next.
//!
//! # Safety
//! The window on the file is mapped once, never moved, and unmapped only when the
//! `MemoryFile` is dropped; slices borrow from it.

#![allow(unsafe_code, reason = "maps the file and hands out slices of the window")]

use std::{
    ffi::c_void,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use linux_abi::Errno;
use ranked_sync::Mutex;
use rustix::{
    fs::{FallocateFlags, MemfdFlags, SeekFrom},
    mm::{Advice, MapFlags, ProtFlags},
};

use super::{VolatileSlice, space::Space, warm::Warm};
use crate::{PAGE_SIZE, host, lock_order::MemoryFileSpace};

/// How much of the file is mapped, and so the file's size, at best and at least.
/// An untouched byte costs nothing.
const WINDOW_MAX: u64 = 8 << 40;
const WINDOW_MIN: u64 = 1 << 30;

/// So many bytes that nobody uses any more are kept until they are given back together: each time costs several
/// microseconds, and a process leaves a dozen ranges.
const DEAD_MAX: u64 = 1 << 20;

/// So many bytes of free pages are kept at most; of a limit, one part in so many.
const WARM_MAX: u64 = 32 << 20;
const WARM_PART: u64 = 16;
/// Without being asked for, so much at a time is taken from them at most: what is larger is often touched in part only.
const WARM_COPY_MAX: u64 = 64 << 10;

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
pub struct MemoryFile {
    file: OwnedFd,
    window: Window,
    limit: Option<u64>,
    /// Bytes in use that are not of the file.
    charged: AtomicU64,
    /// How much may be allocated before the limit has to be looked at again: what was free under it when it
    /// last was, less what was allocated since. Spares a host call for each allocation.
    headroom: AtomicU64,
    space: Mutex<MemoryFileSpace, Pages>,
}

#[derive(Debug)]
struct Pages {
    space: Space,
    /// Free pages that are not in `space`.
    warm: Warm,
    /// Pages that nobody counts, with their old bytes still in them: not free yet.
    dead: Vec<FileRange>,
    dead_bytes: u64,
}

impl Pages {
    fn take_warm(&mut self, len: u64, near: Option<u64>) -> Option<FileRange> {
        let range = match near {
            Some(near) => self.warm.take_at(near, len),
            None => self.warm.take(len),
        }?;
        self.space.count(range);
        Some(range)
    }

    fn take_dead(&mut self) -> Vec<FileRange> {
        self.dead_bytes = 0;
        std::mem::take(&mut self.dead)
    }
}

/// The file, mapped.
#[derive(Debug)]
struct Window {
    base: *mut c_void,
    len: u64,
}

// SAFETY: the window is plain shared memory; all access goes through VolatileSlice.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps as much of the file as the address-space limit allows, and sizes the file.
    fn map(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut len = WINDOW_MAX;
        loop {
            rustix::fs::ftruncate(file, len).map_err(host::errno)?;
            // SAFETY: a new mapping at an address the kernel chooses.
            let mapped = unsafe {
                rustix::mm::mmap(
                    ptr::null_mut(),
                    len as usize,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED | MapFlags::NORESERVE,
                    file,
                    0,
                )
            };
            match mapped {
                Ok(base) => {
                    // Core dumps of the sentry must not contain terabytes of guest memory.
                    // SAFETY: our own mapping; the advice changes no bytes.
                    let _ =
                        unsafe { rustix::mm::madvise(base, len as usize, Advice::LinuxDontDump) };
                    return Ok(Self { base, len });
                }
                Err(_) if len > WINDOW_MIN => len /= 2,
                Err(error) => return Err(host::errno(error)),
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and slices borrow the MemoryFile that owns it.
        let _ = unsafe { rustix::mm::munmap(self.base, self.len as usize) };
    }
}

impl MemoryFile {
    /// An empty file. `limit`: at most so many bytes in use, then ENOMEM.
    pub fn new(limit: Option<u64>) -> Result<Self, Errno> {
        let file =
            rustix::fs::memfd_create("guest-memory", MemfdFlags::CLOEXEC).map_err(host::errno)?;
        let window = Window::map(file.as_fd())?;
        let pages = Pages {
            space: Space::new(window.len),
            warm: Warm::new(limit.map_or(WARM_MAX, |limit| WARM_MAX.min(limit / WARM_PART))),
            dead: Vec::new(),
            dead_bytes: 0,
        };
        let space = Mutex::new(pages);
        Ok(Self {
            file,
            window,
            limit,
            headroom: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            space,
        })
    }

    /// A range of `len` bytes (whole pages) that reads as zero, counted once.
    /// Costs no memory until touched. `near`: put it right behind that offset if
    /// free, so that a growing mapping stays one mapping on the host.
    ///
    /// # Errors
    /// EINVAL for a length that is zero or no whole pages; ENOMEM over the limit, or
    /// when the file has no room for so large a range.
    pub fn allocate(&self, len: u64, near: Option<u64>) -> Result<FileRange, Errno> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if let Some(limit) = self.limit {
            self.check_limit(limit, len)?;
        }
        {
            let mut pages = self.space.lock();
            let warm = if near.is_none() && len <= WARM_COPY_MAX {
                pages.take_warm(len, None)
            } else {
                None
            };
            if let Some(range) = warm.or_else(|| pages.space.allocate(len, near)) {
                return Ok(range);
            }
        }
        self.bury_dead();
        self.cool_down();
        self.space.lock().space.allocate(len, near).ok_or(Errno::ENOMEM)
    }

    /// As [`Self::allocate`], but only pages which the host holds already: mapping them with their page-table entries
    /// costs a tenth of what touching fresh ones does. `None` when there are no such pages.
    pub fn allocate_present(&self, len: u64, near: Option<u64>) -> Option<FileRange> {
        if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        if let Some(limit) = self.limit {
            self.check_limit(limit, len).ok()?;
        }
        self.space.lock().take_warm(len, near)
    }

    /// The limit is on memory in use. What is allocated but untouched is free, so this stops growth only once
    /// the host really holds that much; what is touched later is for whoever watches [`Self::used`].
    fn check_limit(&self, limit: u64, len: u64) -> Result<(), Errno> {
        let taken = self.headroom.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |headroom| {
            headroom.checked_sub(len)
        });
        if taken.is_err() {
            let free = limit.saturating_sub(self.used());
            self.headroom.store(free.saturating_sub(len), Ordering::Relaxed);
            if free == 0 {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(())
    }

    /// Counts each page of the range once more.
    pub fn retain(&self, range: FileRange) {
        self.space.lock().space.retain(range);
    }

    /// Counts each page once less; pages no one uses are given back, now or a little later.
    pub fn release(&self, range: FileRange) {
        self.release_later(range);
        self.settle();
    }

    /// The same, when somebody waits: [`Self::settle`] is to be called when nobody does.
    pub fn release_later(&self, range: FileRange) {
        let mut pages = self.space.lock();
        let dead = pages.space.release(range);
        pages.dead_bytes += dead.iter().map(|range| range.len()).sum::<u64>();
        pages.dead.extend(dead);
    }

    /// Gives back what nobody uses any more, if it is much: that costs a millisecond for some megabytes.
    pub fn settle(&self) {
        let is_much = self.space.lock().dead_bytes >= DEAD_MAX;
        if is_much {
            self.bury_dead();
        }
    }

    /// Makes free what nobody uses.
    fn bury_dead(&self) {
        let (mut dead, mut room) = {
            let mut pages = self.space.lock();
            (pages.take_dead(), pages.warm.room())
        };
        dead.sort_unstable_by_key(|range| range.start);
        dead.dedup_by(|next, last| {
            let touches = last.end == next.start;
            if touches {
                last.end = next.end;
            }
            touches
        });
        // In between, no one can be given these pages: they are neither counted nor free.
        for range in dead {
            if room == 0 {
                self.give_back(range);
                continue;
            }
            let mut at = range.start;
            self.data_ranges(range, &mut |data| {
                self.space.lock().space.give_back(FileRange { start: at, end: data.start });
                at = data.end;
                let keep = data.sub(0, room.min(data.len()));
                room -= keep.len();
                self.slice(keep).fill(0);
                if !self.space.lock().warm.put(keep) {
                    self.give_back(keep);
                }
                self.give_back(FileRange { start: keep.end, end: data.end });
            });
            self.space.lock().space.give_back(FileRange { start: at, end: range.end });
        }
    }

    /// Gives pages that nobody counts back to the host. Those which the host fails to take are dropped for good rather
    /// than handed out with somebody's bytes in them.
    fn give_back(&self, range: FileRange) {
        if self.discard(range).is_ok() {
            self.space.lock().space.give_back(range);
        }
    }

    /// Gives the free pages that were kept back to the host. For when nobody has needed any for a while.
    pub fn cool_down(&self) {
        let warm = self.space.lock().warm.take_all();
        for range in warm {
            self.give_back(range);
        }
    }

    /// True when each page of the range is counted exactly once.
    pub fn is_sole(&self, range: FileRange) -> bool {
        self.space.lock().space.is_sole(range)
    }

    /// Gives the bytes back; the range stays allocated and reads as zero
    /// (`madvise(MADV_DONTNEED)`). The caller is the only user.
    pub fn discard(&self, range: FileRange) -> Result<(), Errno> {
        self.fallocate(range, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)
    }

    /// Commits host memory for the range now (fallocate), before it is populated.
    pub fn commit(&self, range: FileRange) -> Result<(), Errno> {
        if self.limit.is_some_and(|limit| self.used().saturating_add(range.len()) > limit) {
            return Err(Errno::ENOMEM);
        }
        self.fallocate(range, FallocateFlags::KEEP_SIZE)
    }

    fn fallocate(&self, range: FileRange, flags: FallocateFlags) -> Result<(), Errno> {
        let len = range.end.checked_sub(range.start).ok_or(Errno::EINVAL)?;
        if len == 0 {
            return Ok(());
        }
        loop {
            match rustix::fs::fallocate(&self.file, flags, range.start, len) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map_err(host::errno),
            }
        }
    }

    /// The bytes, mapped in this process. The caller holds a count on the range for
    /// as long as it uses the slice. What lies outside the file is cut off.
    pub fn slice(&self, range: FileRange) -> VolatileSlice<'_> {
        let end = range.end.min(self.window.len);
        let start = range.start.min(end);
        let base = self.window.base.cast::<u8>().wrapping_add(start as usize);
        // SAFETY: inside the window, which stays mapped as long as `self` is borrowed.
        unsafe { VolatileSlice::new(base, (end - start) as usize) }
    }

    /// Writes `from` to the pages `to`, as many bytes as both have. For pages that are not in use yet this costs half
    /// of what filling them through [`Self::slice`] does: the host takes no page fault for each, and zeroes none.
    pub fn write(&self, to: FileRange, from: VolatileSlice<'_>) -> Result<(), Errno> {
        let len = from.len().min(usize::try_from(to.len()).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < len {
            let rest = from.sub(done, len - done);
            match host::pwritev(self.fd(), &[rest], to.start.saturating_add(done as u64)) {
                Ok(0) => return Err(Errno::ENOMEM),
                Ok(n) => done += n,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Tells `each` which parts of the range hold data, in order: pages that were touched.
    pub fn data_ranges(&self, range: FileRange, each: &mut dyn FnMut(FileRange)) {
        let mut at = range.start;
        while at < range.end {
            // Fails behind the last data.
            let Ok(start) = rustix::fs::seek(&self.file, SeekFrom::Data(at)) else { return };
            if start >= range.end {
                return;
            }
            let start = start.max(range.start);
            // SEEK_HOLE would look at all pages up to the next hole, which may lie far behind the range.
            at = self.present_until(FileRange { start, end: range.end }).max(start + PAGE_SIZE);
            each(FileRange { start, end: at.min(range.end) });
        }
    }

    /// The first page of the range that the host does not hold.
    fn present_until(&self, range: FileRange) -> u64 {
        const PAGES: u64 = 256;
        let mut present = [0u8; PAGES as usize];
        let mut at = range.start;
        while at < range.end {
            let part = FileRange { start: at, end: range.end.min(at + PAGES * PAGE_SIZE) };
            let slice = self.slice(part);
            // SAFETY: the slice is mapped, and there is a byte for each page of it.
            let result =
                unsafe { libc::mincore(slice.as_ptr().cast(), slice.len(), present.as_mut_ptr()) };
            let pages = slice.len() / PAGE_SIZE as usize;
            if result != 0 || pages == 0 {
                return at;
            }
            let pages = present.get(..pages).unwrap_or_default();
            if let Some(absent) = pages.iter().position(|page| page & 1 == 0) {
                return at + absent as u64 * PAGE_SIZE;
            }
            at = part.end;
        }
        range.end
    }

    /// Bytes in use: what the host holds for the file now, and what was charged besides.
    pub fn used(&self) -> u64 {
        if self.space.lock().dead_bytes > 0 {
            self.bury_dead();
        }
        // First: what is taken from them meanwhile counts once too often, not once too little.
        let warm = self.space.lock().warm.bytes();
        let held = rustix::fs::fstat(&self.file)
            .map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        held.saturating_sub(warm).saturating_add(self.charged())
    }

    /// Counts so many bytes as in use that are not of the file: what is held elsewhere on the guest's behalf.
    pub fn charge(&self, bytes: u64) {
        self.charged.store(bytes, Ordering::Relaxed);
    }

    /// `ENOSPC` when what was charged is half of the limit: no more of it should come where that can be refused, as with
    /// names, links and attributes of files in memory.
    pub fn check_room(&self) -> Result<(), Errno> {
        let is_much = self.limit.is_some_and(|limit| self.charged() > limit / 2);
        if is_much { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// What [`Self::charge`] said last.
    pub fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// What programs are told that the machine has: the host's memory, or the limit if that is less.
    pub fn total(&self) -> u64 {
        let host = host::total_memory();
        self.limit.map_or(host, |limit| limit.min(host))
    }

    /// What may be in use at most; `None`: as much as the host has.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The descriptor, for mapping into stubs and for saving.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE;

    #[test]
    fn released_pages_read_as_zero_and_cost_nothing() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(4 * PAGE, None).unwrap();
        memory.slice(range).fill(7);
        assert_eq!(memory.used(), 4 * PAGE);
        let mut data = Vec::new();
        memory.data_ranges(range, &mut |part| data.push(part));
        assert_eq!(data, [range]);
        memory.retain(range.sub(PAGE, PAGE));
        memory.release(range);
        assert_eq!(memory.used(), PAGE, "one page is still counted");
        memory.release(range.sub(PAGE, PAGE));
        assert_eq!(memory.used(), 0);
        let again = memory.allocate(4 * PAGE, None).unwrap();
        let mut bytes = [1u8; 16];
        memory.slice(again).sub(PAGE as usize, 16).copy_to(&mut bytes);
        assert_eq!(bytes, [0; 16]);
    }

    #[test]
    fn data_ranges_end_with_the_range_and_with_each_hole() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(1024 * PAGE, None).unwrap();
        memory.slice(range.sub(PAGE, 600 * PAGE)).fill(7);
        memory.slice(range.sub(700 * PAGE, 2 * PAGE)).fill(7);
        let found = |part: FileRange| {
            let mut data = Vec::new();
            memory.data_ranges(part, &mut |data_range| data.push(data_range));
            data
        };
        let (long, short) = (range.sub(PAGE, 600 * PAGE), range.sub(700 * PAGE, 2 * PAGE));
        assert_eq!(found(range), [long, short]);
        assert_eq!(found(range.sub(2 * PAGE, 3 * PAGE)), [range.sub(2 * PAGE, 3 * PAGE)]);
        assert_eq!(found(range.sub(0, PAGE)), []);
        assert_eq!(found(range.sub(701 * PAGE, 300 * PAGE)), [range.sub(701 * PAGE, PAGE)]);
    }

    #[test]
    fn written_pages_show_in_the_window() {
        let memory = MemoryFile::new(None).unwrap();
        let (from, to) =
            (memory.allocate(2 * PAGE, None).unwrap(), memory.allocate(2 * PAGE, None).unwrap());
        memory.slice(from).fill(3);
        memory.write(to, memory.slice(from)).unwrap();
        let mut bytes = [0; 8192];
        assert_eq!(memory.slice(to).copy_to(&mut bytes), 8192);
        assert_eq!(bytes, [3; 8192]);
        assert_eq!(memory.used(), 4 * PAGE);
    }

    #[test]
    fn pages_that_were_touched_are_handed_out_again_present_and_zero() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(8 * PAGE, None).unwrap();
        memory.slice(range.sub(2 * PAGE, 3 * PAGE)).fill(7);
        memory.release(range);
        assert_eq!(memory.used(), 0);
        assert_eq!(memory.allocate_present(4 * PAGE, None), None);
        let again = memory.allocate_present(2 * PAGE, None).unwrap();
        assert_eq!(again, range.sub(2 * PAGE, 2 * PAGE));
        let mut bytes = [1; 8192];
        memory.slice(again).copy_to(&mut bytes);
        assert_eq!(bytes, [0; 8192]);
        assert_eq!(memory.used(), 2 * PAGE, "what is kept is free");
        assert_eq!(memory.allocate_present(PAGE, Some(again.end)), Some(range.sub(4 * PAGE, PAGE)));
        memory.release(range.sub(2 * PAGE, 3 * PAGE));
        memory.cool_down();
        assert_eq!(memory.allocate_present(PAGE, None), None);
    }

    #[test]
    fn no_more_is_kept_than_a_part_of_the_limit() {
        let limit = 64 * PAGE;
        let memory = MemoryFile::new(Some(limit)).unwrap();
        let range = memory.allocate(32 * PAGE, None).unwrap();
        memory.slice(range).fill(7);
        memory.release(range);
        assert_eq!(memory.used(), 0);
        assert_eq!(memory.allocate_present(limit / WARM_PART + PAGE, None), None);
        assert!(memory.allocate_present(limit / WARM_PART, None).is_some());
    }

    #[test]
    fn discard_keeps_the_range() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(PAGE, None).unwrap();
        memory.slice(range).fill(1);
        memory.discard(range).unwrap();
        assert!(memory.is_sole(range));
        let mut byte = [9];
        memory.slice(range).copy_to(&mut byte);
        assert_eq!(byte, [0]);
    }

    #[test]
    fn the_limit_is_on_what_is_touched() {
        let memory = MemoryFile::new(Some(4 * PAGE)).unwrap();
        let range = memory.allocate(1 << 30, None).unwrap();
        memory.commit(range.sub(0, 4 * PAGE)).unwrap();
        assert_eq!(memory.commit(range.sub(4 * PAGE, PAGE)), Err(Errno::ENOMEM));
        assert_eq!(memory.allocate(PAGE, None), Err(Errno::ENOMEM));
    }

    #[test]
    fn hundred_gigabytes_cost_nothing() {
        let memory = MemoryFile::new(None).unwrap();
        let range = memory.allocate(100 << 30, None).unwrap();
        memory.slice(range).sub(99 << 30, 1).fill(1);
        assert_eq!(memory.used(), PAGE);
        memory.release(range);
        assert_eq!(memory.used(), 0);
    }
}
