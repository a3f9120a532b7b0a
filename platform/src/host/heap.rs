//! The C library's allocator: how much this process holds by it, and giving back what it holds in reserve.

#![allow(unsafe_code, reason = "mallopt, malloc_trim")]

use std::{
    fs::File,
    io::IoSliceMut,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::io::ReadWriteFlags;

use crate::PAGE_SIZE;

/// `/proc/self/statm`, opened while /proc is in sight.
static STATM: OnceLock<File> = OnceLock::new();
/// See [`heap_is_full`].
static FULL: AtomicBool = AtomicBool::new(false);

/// To be called before the process shuts itself off from the host's file systems; else [`own_memory`] is 0.
pub fn open_own_memory() {
    if let Ok(file) = File::open("/proc/self/statm") {
        let _ = STATM.set(file);
    }
}

/// Bytes of memory that are this process's alone: heap and stacks, without what it maps of files (proc(5), `statm`).
pub fn own_memory() -> u64 {
    let mut text = [0; 128];
    let read = STATM.get().and_then(|file| {
        // The one way to read at a position that the sentry's filter lists.
        let to = &mut [IoSliceMut::new(&mut text)];
        rustix::io::preadv2(file, to, 0, ReadWriteFlags::empty()).ok()
    });
    let read = read.unwrap_or(0);
    let text = text.get(..read).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    let mut pages = text.split(' ').skip(1).map_while(|field| field.parse::<u64>().ok());
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared).saturating_mul(PAGE_SIZE)
}

/// Says whether this process may hold more on its guests' behalf, for those who ask [`heap_is_full`].
pub fn set_heap_full(full: bool) {
    FULL.store(full, Ordering::Relaxed);
}

/// Whether guests have used up what they may: no buffer should be made for them now.
pub fn heap_is_full() -> bool {
    FULL.load(Ordering::Relaxed)
}

/// Gives the host what was freed and is kept for the next allocation.
pub fn trim_heap() {
    // SAFETY: works on free chunks only, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Lets all threads of this process share one heap. With a heap a thread, glibc reads
/// /proc/sys/vm/overcommit_memory when one of them shrinks, by a read(2) that a file server need not be allowed.
/// To be called before there are threads.
pub fn share_one_heap() {
    // SAFETY: sets a number in the allocator, under its own lock; no memory is named.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_follows_the_heap() {
        open_own_memory();
        let before = own_memory();
        let much = vec![1_u8; 64 << 20];
        assert!(own_memory() >= before + (48 << 20), "{before} {}", own_memory());
        drop(std::hint::black_box(much));
        trim_heap();
        assert!(own_memory() < before + (32 << 20));
    }
}
