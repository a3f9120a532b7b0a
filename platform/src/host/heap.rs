//! The C library's allocator, where it would ask the host more than a process may.

#![allow(unsafe_code, reason = "mallopt")]

/// Lets all threads of this process share one heap. With a heap a thread, glibc reads
/// /proc/sys/vm/overcommit_memory when one of them shrinks, by a read(2) that a file server need not be allowed.
/// To be called before there are threads.
pub fn share_one_heap() {
    // SAFETY: sets a number in the allocator, under its own lock; no memory is named.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
