//! The supervisor's memory: stub code, descriptor tables, page tables, vCPU pages.
//!
//! Pages that were page tables come back only when all their entries were cleared by the stub.
//! Roots stay roots: a vCPU may have one loaded that is in nobody's use.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use kvm_ioctls::VmFd;
use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{layout::*, reserved::Reserved, slots::Slots, stub};
use crate::{PlatformError, lock_order::KvmPages};

/// See the module.
#[derive(Debug)]
pub(super) struct SystemArea {
    banks: Box<[OnceLock<Reserved>]>,
    free: Mutex<KvmPages, Free>,
}

#[derive(Debug)]
struct Free {
    /// Pages of zeros, and roots without guest memory.
    pages: Vec<u64>,
    roots: Vec<u64>,
    /// From here on nothing was ever handed out; up to where banks are.
    next: u64,
    end: u64,
}

impl SystemArea {
    /// With the fixed pages filled in.
    pub(super) fn new(vm: &VmFd, slots: &Slots) -> Result<Self, PlatformError> {
        let banks = (0..BANK_COUNT).map(|_| OnceLock::new()).collect();
        let free = Free {
            pages: Vec::new(),
            roots: Vec::new(),
            next: SYSTEM_GPA + DYNAMIC,
            end: SYSTEM_GPA,
        };
        let area = Self { banks, free: Mutex::new(free) };
        area.add_bank(&mut area.free.lock(), vm, slots)?;
        let fixed = |offset: u64| area.page(SYSTEM_GPA + offset);
        for (word, bytes) in fixed(CODE).iter().zip(stub::code().chunks_exact(8)) {
            word.store(u64::from_le_bytes(bytes.try_into().unwrap_or_default()), Ordering::Relaxed);
        }
        for (word, value) in fixed(IDT).iter().zip(stub::idt()) {
            word.store(value, Ordering::Relaxed);
        }
        for (n, entry) in (0..SHARED_PD_COUNT).zip(fixed(SHARED_PDPT)) {
            let table = SYSTEM_GPA + SHARED_PD + n * PAGE;
            entry.store(table | PRESENT | WRITABLE | USED, Ordering::Relaxed);
        }
        for (n, entry) in (0u64..).zip(fixed(SHARED_PT)) {
            let offset = n * PAGE;
            let rights = match offset {
                0 => 0,
                CODE => PRESENT | USED,
                IDT => PRESENT | USED | NO_EXECUTE,
                _ => PRESENT | WRITABLE | USED | NO_EXECUTE,
            };
            let page = if rights == 0 { 0 } else { SYSTEM_GPA + offset };
            entry.store(page | rights, Ordering::Relaxed);
        }
        area.make_root(SYSTEM_GPA + FIRST_ROOT);
        Ok(area)
    }

    /// More room: memory, a slot, and large pages in the supervisor half.
    fn add_bank(&self, free: &mut Free, vm: &VmFd, slots: &Slots) -> Result<(), PlatformError> {
        let full = PlatformError::Host { what: "room for page tables", errno: Errno::ENOMEM };
        let number = (free.end - SYSTEM_GPA) / BANK;
        let Some(bank) = self.banks.get(number as usize) else { return Err(full) };
        let memory = Reserved::memory(BANK)
            .map_err(|errno| PlatformError::Host { what: "memory for page tables", errno })?;
        slots.add(vm, free.end, BANK, memory.address())?;
        if bank.set(memory).is_err() {
            return Err(full);
        }
        for gpa in (free.end..free.end + BANK).step_by(LARGE_PAGE as usize) {
            let large = (gpa - SYSTEM_GPA) / LARGE_PAGE;
            let table = self.page(SYSTEM_GPA + SHARED_PD + large / 512 * PAGE);
            let entry = match large {
                0 => (SYSTEM_GPA + SHARED_PT) | PRESENT | WRITABLE | USED,
                _ => gpa | PRESENT | WRITABLE | USED | LARGE | NO_EXECUTE,
            };
            if let Some(word) = table.get(large as usize % 512) {
                word.store(entry, Ordering::Release);
            }
        }
        free.end += BANK;
        Ok(())
    }

    fn make_root(&self, gpa: u64) {
        if let Some(entry) = self.page(gpa).get(SYSTEM_ROOT_ENTRY) {
            let table = SYSTEM_GPA + SHARED_PDPT;
            entry.store(table | PRESENT | WRITABLE | USED, Ordering::Release);
        }
    }

    /// The words of a page; none for an address that is not in the area.
    pub(super) fn page(&self, gpa: u64) -> &[AtomicU64] {
        let Some(offset) = gpa.checked_sub(SYSTEM_GPA) else { return &[] };
        let bank = self.banks.get((offset / BANK) as usize).and_then(OnceLock::get);
        bank.map_or(&[], |bank| bank.page(offset % BANK))
    }

    /// So many pages of zeros, one behind the other.
    pub(super) fn new_pages(
        &self,
        vm: &VmFd,
        slots: &Slots,
        count: u64,
    ) -> Result<u64, PlatformError> {
        let mut free = self.free.lock();
        if count == 1
            && let Some(page) = free.pages.pop()
        {
            return Ok(page);
        }
        if free.next + count * PAGE > free.end {
            self.add_bank(&mut free, vm, slots)?;
        }
        let start = free.next;
        free.next += count * PAGE;
        Ok(start)
    }

    /// A root without guest memory.
    pub(super) fn new_root(&self, vm: &VmFd, slots: &Slots) -> Result<u64, PlatformError> {
        if let Some(root) = self.free.lock().roots.pop() {
            return Ok(root);
        }
        let root = self.new_pages(vm, slots, 1)?;
        self.make_root(root);
        Ok(root)
    }

    /// Takes back pages whose entries are all clear.
    pub(super) fn give_back(&self, pages: &[u64]) {
        self.free.lock().pages.extend(pages);
    }

    /// How many pages were ever handed out.
    #[cfg(test)]
    pub(super) fn pages_made(&self) -> u64 {
        (self.free.lock().next - SYSTEM_GPA - DYNAMIC) / PAGE
    }

    pub(super) fn give_back_root(&self, root: u64) {
        self.free.lock().roots.push(root);
    }
}
