//! The control file: a memfd that holds the pages which the sentry shares with stub
//! processes. The sentry maps all of it; a stub process maps its command pages
//! (read-only) and its own slots, and never those of another.
//!
//! # Safety
//! The window is mapped once and unmapped only when the `Control` is dropped. All
//! access is volatile or atomic, at offsets checked against the window, since a guest
//! may write its slots at any time.

#![allow(unsafe_code, reason = "maps the control file and accesses it")]

use std::{
    ffi::c_void,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use linux_abi::Errno;
use ranked_sync::Mutex;
use rustix::{
    fs::{FallocateFlags, MemfdFlags},
    mm::{Advice, MapFlags, ProtFlags},
};

use super::layout::*;
use crate::{host, lock_order::ControlPool};

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    file: OwnedFd,
    base: *mut c_void,
    free: Mutex<ControlPool, Free>,
}

// SAFETY: the window is plain shared memory with atomic or volatile access.
unsafe impl Send for Control {}
// SAFETY: as above.
unsafe impl Sync for Control {}

/// Numbers not in use.
#[derive(Debug, Default)]
struct Free {
    slots: Numbers,
    processes: Numbers,
}

/// Hands out small numbers.
#[derive(Debug, Default)]
struct Numbers {
    given_back: Vec<u32>,
    next: u32,
}

impl Numbers {
    fn take(&mut self, count: u32) -> Option<u32> {
        if let Some(number) = self.given_back.pop() {
            return Some(number);
        }
        let number = self.next;
        (number < count).then(|| {
            self.next += 1;
            number
        })
    }
}

/// The number of a slot, and so its place in the file and in stub processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    /// Its address in a stub process.
    pub(crate) fn address(self) -> u64 {
        SLOTS + u64::from(self.0) * SLOT_SIZE
    }

    /// Its offset in the control file.
    pub(crate) fn offset(self) -> u64 {
        SLOTS_OFFSET + u64::from(self.0) * SLOT_SIZE
    }

    /// The address of its answers in a stub process.
    pub(crate) fn answers(self) -> u64 {
        ANSWERS + u64::from(self.0) * ANSWERS_SIZE
    }

    /// The offset of its answers in the control file.
    pub(crate) fn answers_offset(self) -> u64 {
        ANSWERS_OFFSET + u64::from(self.0) * ANSWERS_SIZE
    }

    /// The file offset of `len` bytes at a stub address, when they lie in the slot's
    /// stack. For addresses which the guest may have made up.
    pub(crate) fn offset_of(self, address: u64, len: u64) -> Option<u64> {
        let inside = address.checked_sub(self.address())?;
        (inside >= SLOT_HEADER && inside.checked_add(len)? <= SLOT_SIZE && inside.is_multiple_of(8))
            .then(|| self.offset() + inside)
    }
}

/// The number of a stub process' command pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandPages(u32);

impl CommandPages {
    /// Their offset in the control file.
    pub(crate) fn offset(self) -> u64 {
        COMMANDS_OFFSET + u64::from(self.0) * COMMAND_SIZE
    }
}

impl Control {
    pub(crate) fn new() -> Result<Self, Errno> {
        let file =
            rustix::fs::memfd_create("stub-control", MemfdFlags::CLOEXEC).map_err(host::errno)?;
        rustix::fs::ftruncate(&file, CONTROL_SIZE).map_err(host::errno)?;
        // SAFETY: a new mapping at an address the kernel chooses.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                CONTROL_SIZE as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &file,
                0,
            )
        }
        .map_err(host::errno)?;
        // SAFETY: our own mapping; the advice changes no bytes.
        let _ = unsafe { rustix::mm::madvise(base, CONTROL_SIZE as usize, Advice::LinuxDontDump) };
        Ok(Self { file, base, free: Mutex::default() })
    }

    pub(crate) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn take_slot(&self) -> Option<Slot> {
        self.free.lock().slots.take(SLOT_COUNT).map(Slot)
    }

    pub(crate) fn take_command_pages(&self) -> Option<CommandPages> {
        self.free.lock().processes.take(PROCESS_COUNT).map(CommandPages)
    }

    /// Takes back what a stub process used, once it has ended.
    pub(crate) fn give_back(&self, pages: Option<CommandPages>, slots: &[Slot]) {
        // The bytes go too: the next user is another guest process.
        for slot in slots {
            self.punch(slot.offset(), SLOT_SIZE);
            self.fill_zero(slot.answers_offset(), ANSWERS_SIZE);
        }
        if let Some(pages) = pages {
            self.punch(pages.offset(), COMMAND_SIZE);
        }
        let mut free = self.free.lock();
        free.slots.given_back.extend(slots.iter().map(|slot| slot.0));
        free.processes.given_back.extend(pages.map(|pages| pages.0));
    }

    /// Makes the bytes of a slot zero. What is used for each frame stays present.
    pub(crate) fn wipe(&self, slot: Slot) {
        const FRAMES: u64 = 12 << 10;
        let (start, end) = (slot.offset(), slot.offset() + SLOT_SIZE);
        self.fill_zero(start, SLOT_HEADER);
        self.punch(start + SLOT_HEADER, SLOT_SIZE - SLOT_HEADER - FRAMES);
        self.fill_zero(end - FRAMES, FRAMES);
    }

    fn punch(&self, offset: u64, len: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, flags, offset, len).is_err() {
            self.fill_zero(offset, len);
        }
    }

    fn at(&self, offset: u64, len: u64) -> *mut u8 {
        let end = offset.checked_add(len);
        // What a guest says is an address first, which `Slot::offset_of` holds to its slot.
        assert!(
            end.is_some_and(|end| end <= CONTROL_SIZE),
            "offsets are made of numbers and constants of ours"
        );
        self.base.cast::<u8>().wrapping_add(offset as usize)
    }

    /// The word at an offset that is a multiple of four.
    pub(crate) fn word(&self, offset: u64) -> &AtomicU32 {
        let word = self.at(offset & !3, 4).cast::<AtomicU32>();
        // SAFETY: inside the window, aligned, mapped as long as `self` is.
        unsafe { &*word }
    }

    pub(crate) fn read_u32(&self, offset: u64) -> u32 {
        self.word(offset).load(Ordering::Relaxed)
    }

    pub(crate) fn read_u64(&self, offset: u64) -> u64 {
        let place = self.at(offset & !7, 8).cast::<u64>();
        // SAFETY: inside the window and aligned; any bytes are a u64.
        unsafe { place.read_volatile() }
    }

    pub(crate) fn write_u64(&self, offset: u64, value: u64) {
        let place = self.at(offset & !7, 8).cast::<u64>();
        // SAFETY: inside the window and aligned.
        unsafe { place.write_volatile(value) }
    }

    pub(crate) fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        let from = self.at(offset, to.len() as u64);
        // SAFETY: inside the window; `to` is ours alone. A concurrent writer gives us
        // some mix of bytes, all of which we treat as hostile.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    pub(crate) fn write_bytes(&self, offset: u64, from: &[u8]) {
        let to = self.at(offset, from.len() as u64);
        // SAFETY: inside the window, which no Rust reference covers.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    pub(crate) fn fill_zero(&self, offset: u64, len: u64) {
        let to = self.at(offset, len);
        // SAFETY: inside the window, which no Rust reference covers.
        unsafe { ptr::write_bytes(to, 0, len as usize) }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: our own mapping; whoever used it borrowed `self`.
        let _ = unsafe { rustix::mm::munmap(self.base, CONTROL_SIZE as usize) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_in_the_stack_of_a_slot_are_taken() {
        let slot = Slot(3);
        let base = slot.address();
        assert_eq!(slot.offset_of(base + SLOT_HEADER, 8), Some(slot.offset() + SLOT_HEADER));
        assert_eq!(slot.offset_of(base + SLOT_SIZE - 8, 8), Some(slot.offset() + SLOT_SIZE - 8));
        for (address, len) in [
            (base, 8),
            (base + SLOT_SIZE - 8, 16),
            (base + SLOT_HEADER + 4, 8),
            (base - 8, 8),
            (base + SLOT_HEADER, u64::MAX),
            (u64::MAX - 7, 8),
        ] {
            assert_eq!(slot.offset_of(address, len), None, "{address:x} {len}");
        }
    }

    #[test]
    fn what_is_given_back_reads_as_zero() {
        let control = Control::new().unwrap();
        let slot = control.take_slot().unwrap();
        control.write_u64(slot.offset() + 8192, 7);
        control.give_back(None, &[slot]);
        assert_eq!(control.take_slot(), Some(slot));
        assert_eq!(control.read_u64(slot.offset() + 8192), 0);
        let places = [0, 4088, 4096, 20480, 20472, SLOT_SIZE - 8].map(|at| slot.offset() + at);
        places.iter().for_each(|&at| control.write_u64(at, 7));
        control.wipe(slot);
        places.iter().for_each(|&at| assert_eq!(control.read_u64(at), 0, "{at:x}"));
    }
}
