//! A window on memory which a guest may change at any moment.

#![allow(unsafe_code, reason = "raw copies to and from shared memory")]

use std::{marker::PhantomData, ptr, sync::atomic::AtomicU32};

/// Bytes of the memory file, mapped in this process. The guest may write them at
/// any time, so no `&[u8]` is ever made of them: they are copied in and out.
#[derive(Clone, Copy, Debug)]
pub struct VolatileSlice<'a> {
    ptr: *mut u8,
    len: usize,
    lifetime: PhantomData<&'a ()>,
}

// SAFETY: a VolatileSlice is an address with a length whose memory stays mapped for
// 'a; all accesses go through raw copies that assume concurrent writers.
unsafe impl Send for VolatileSlice<'_> {}
// SAFETY: as above.
unsafe impl Sync for VolatileSlice<'_> {}

impl<'a> VolatileSlice<'a> {
    /// # Safety
    /// `ptr..ptr + len` must stay mapped readable and writable for `'a`.
    pub(crate) unsafe fn new(ptr: *mut u8, len: usize) -> Self {
        Self { ptr, len, lifetime: PhantomData }
    }

    /// Bytes of this process's own, for a host call to fill.
    pub fn lend(bytes: &'a mut [u8]) -> Self {
        // SAFETY: borrowed for 'a, and reached in no other way meanwhile.
        unsafe { Self::new(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// Bytes in the slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address in this process, for host calls which take iovecs.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// The part of `len` bytes from `offset` on, cut to what is there.
    pub fn sub(&self, offset: usize, len: usize) -> Self {
        let offset = offset.min(self.len);
        let len = len.min(self.len - offset);
        // SAFETY: offset and len were cut to this slice, which is mapped for 'a.
        unsafe { Self::new(self.ptr.add(offset), len) }
    }

    /// Copies to `dst` as many bytes as both hold; returns how many.
    pub fn copy_to(&self, dst: &mut [u8]) -> usize {
        let n = dst.len().min(self.len);
        // SAFETY: both sides are valid for n bytes; `dst` is ours alone, and the
        // source may change meanwhile, which gives some mix of old and new bytes.
        unsafe { ptr::copy(self.ptr, dst.as_mut_ptr(), n) };
        n
    }

    /// Copies from `src` as many bytes as both hold; returns how many.
    pub fn copy_from(&self, src: &[u8]) -> usize {
        let n = src.len().min(self.len);
        // SAFETY: both sides are valid for n bytes.
        unsafe { ptr::copy(src.as_ptr(), self.ptr, n) };
        n
    }

    /// Copies between two slices (which may overlap); returns how many bytes.
    pub fn copy_from_slice(&self, src: &VolatileSlice<'_>) -> usize {
        let n = src.len.min(self.len);
        // SAFETY: both sides are mapped for n bytes; ptr::copy allows overlap.
        unsafe { ptr::copy(src.ptr, self.ptr, n) };
        n
    }

    /// Sets all bytes.
    pub fn fill(&self, byte: u8) {
        // SAFETY: the slice is mapped writable.
        unsafe { ptr::write_bytes(self.ptr, byte, self.len) };
    }

    /// The futex word at `offset`, or `None` when out of range or unaligned.
    pub fn atomic_u32(&self, offset: usize) -> Option<&'a AtomicU32> {
        if offset.checked_add(4)? > self.len {
            return None;
        }
        let word = self.ptr.wrapping_add(offset).cast::<AtomicU32>();
        if !word.is_aligned() {
            return None;
        }
        // SAFETY: in range, aligned, mapped for 'a; shared access to it is atomic
        // here, and what a guest does to it is a data race only with itself.
        Some(unsafe { &*word })
    }
}
