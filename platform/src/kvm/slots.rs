//! Slots of guest-physical memory: what KVM takes from where in this process.

#![allow(unsafe_code, reason = "tells KVM which memory of ours guests may use")]

use std::collections::HashMap;

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use linux_abi::Errno;
use ranked_sync::Mutex;

use super::layout::*;
use crate::{
    PlatformError,
    lock_order::KvmSlots,
    memory::{FileRange, MemoryFile},
};

/// See the module. Slots are never taken away.
#[derive(Debug)]
pub(super) struct Slots {
    state: Mutex<KvmSlots, State>,
}

#[derive(Debug)]
struct State {
    next_slot: u32,
    /// The memory file's pieces, by number, and where they are.
    chunks: HashMap<u64, u64>,
    /// Where the next one goes, and the end.
    next_chunk: u64,
    end: u64,
}

impl Slots {
    /// `address_bits`: of guest-physical addresses. Also: how much there is for host files.
    pub(super) fn new(address_bits: u32) -> (Self, u64) {
        let end = 1u64 << address_bits.clamp(32, 52);
        let files = FILES_MAX.min(end / 4);
        let state =
            State { next_slot: 0, chunks: HashMap::new(), next_chunk: FILES_GPA + files, end };
        (Self { state: Mutex::new(state) }, files)
    }

    /// Makes `len` bytes of this process from `address` on appear at `gpa`. They stay mapped as long as `vm` is.
    pub(super) fn add(
        &self,
        vm: &VmFd,
        gpa: u64,
        len: u64,
        address: u64,
    ) -> Result<(), PlatformError> {
        add(&mut self.state.lock(), vm, gpa, len, address, 0)
    }

    /// The same, for what no guest may write, whatever its page tables say.
    pub(super) fn add_read_only(
        &self,
        vm: &VmFd,
        gpa: u64,
        len: u64,
        address: u64,
    ) -> Result<(), PlatformError> {
        add(&mut self.state.lock(), vm, gpa, len, address, KVM_MEM_READONLY)
    }

    /// Where the byte at `offset` of the memory file is.
    pub(super) fn memory(
        &self,
        vm: &VmFd,
        memory: &MemoryFile,
        offset: u64,
    ) -> Result<u64, PlatformError> {
        let number = offset / CHUNK;
        let mut state = self.state.lock();
        if let Some(gpa) = state.chunks.get(&number) {
            return Ok(gpa + offset % CHUNK);
        }
        let gpa = state.next_chunk;
        let start = number * CHUNK;
        let piece = memory.slice(FileRange { start, end: start + CHUNK });
        let room = gpa.checked_add(CHUNK).is_some_and(|end| end <= state.end);
        if !room || piece.is_empty() {
            return Err(PlatformError::Host {
                what: "guest-physical addresses for guest memory",
                errno: Errno::ENOMEM,
            });
        }
        let address = piece.as_ptr().expose_provenance() as u64;
        add(&mut state, vm, gpa, piece.len() as u64, address, 0)?;
        state.next_chunk = gpa + CHUNK;
        state.chunks.insert(number, gpa);
        Ok(gpa + offset % CHUNK)
    }
}

fn add(
    state: &mut State,
    vm: &VmFd,
    gpa: u64,
    len: u64,
    address: u64,
    flags: u32,
) -> Result<(), PlatformError> {
    let region = kvm_userspace_memory_region {
        slot: state.next_slot,
        flags,
        guest_phys_addr: gpa,
        memory_size: len,
        userspace_addr: address,
    };
    // SAFETY: the callers pass mappings that live in the machine beside the VM, and whose
    // contents are accessed as memory that others change.
    unsafe { vm.set_user_memory_region(region) }.map_err(|error| PlatformError::Host {
        what: "a slot of guest-physical memory",
        errno: Errno::from_raw(error.errno()),
    })?;
    state.next_slot += 1;
    Ok(())
}
