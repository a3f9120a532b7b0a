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
use crate::{PlatformError, lock_order::KvmPages, stub::layout::HOST_VDSO};

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
        let link = |table: u64, at: usize, to: u64, rights: u64| {
            if let Some(entry) = fixed(table).get(at) {
                entry.store((SYSTEM_GPA + to) | PRESENT | USED | rights, Ordering::Relaxed);
            }
        };
        link(SHARED_PDPT, SHARED_PD_COUNT as usize, ENTRIES_PD, 0);
        link(ENTRIES_PD, 0, ENTRIES_PT, 0);
        link(VDSO_PD, index(HOST_VDSO, 2), VDSO_PT, USER);
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
        area.make_root(SYSTEM_GPA + FIRST_ROOT, None);
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

    /// `top`: the table for the addresses round the end of guest memory, for ring 3.
    fn make_root(&self, gpa: u64, top: Option<u64>) {
        let link = |table: u64, at: usize, to: u64, rights: u64| {
            if let Some(entry) = self.page(table).get(at) {
                entry.store(to | PRESENT | USED | rights, Ordering::Release);
            }
        };
        link(gpa, SYSTEM_ROOT_ENTRY, SYSTEM_GPA + SHARED_PDPT, WRITABLE);
        if let Some(top) = top {
            link(top, index(HOST_VDSO, 3), SYSTEM_GPA + VDSO_PD, USER);
            link(gpa, TOP_ROOT_ENTRY, top, WRITABLE | USER);
        }
    }

    /// Makes way in number `entry`, for the vCPU whose pages are at `pages`.
    pub(super) fn add_entry(&self, entry: u64, pages: u64) {
        let table = self.page(SYSTEM_GPA + ENTRIES_PT);
        let code = (SYSTEM_GPA + CODE) | PRESENT | USED;
        let data = pages | PRESENT | USED | NO_EXECUTE;
        for (word, value) in table.iter().skip(2 * entry as usize).zip([code, data]) {
            word.store(value, Ordering::Release);
        }
    }

    /// Shows ring 3 the page at `gpa` as number `number` from [`HOST_VDSO`] on.
    pub(super) fn add_vdso_page(&self, number: u64, gpa: u64, executable: bool) {
        let rights = if executable { 0 } else { NO_EXECUTE };
        let at = index(HOST_VDSO + number * PAGE, 1);
        if let Some(entry) = self.page(SYSTEM_GPA + VDSO_PT).get(at) {
            entry.store(gpa | PRESENT | USER | USED | rights, Ordering::Release);
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
        if free.next + count * PAGE > free.end {
            self.add_bank(&mut free, vm, slots)?;
        }
        let start = free.next;
        free.next += count * PAGE;
        Ok(start)
    }

    /// A root without guest memory.
    pub(super) fn new_root(&self, vm: &VmFd, slots: &Slots) -> Result<u64, PlatformError> {
        let root = self.new_pages(vm, slots, 2)?;
        self.make_root(root, Some(root + PAGE));
        Ok(root)
    }

    /// A page of zeros, or a root without guest memory, that was in use before.
    pub(super) fn take_page(&self) -> Option<u64> {
        self.free.lock().pages.pop()
    }

    pub(super) fn take_root(&self) -> Option<u64> {
        self.free.lock().roots.pop()
    }

    /// Takes back pages and roots whose entries are all clear.
    pub(super) fn give_back(&self, pages: &[u64], roots: &[u64]) {
        let mut free = self.free.lock();
        free.pages.extend(pages);
        free.roots.extend(roots);
    }

    /// How many pages were ever handed out.
    #[cfg(test)]
    pub(super) fn pages_made(&self) -> u64 {
        (self.free.lock().next - SYSTEM_GPA - DYNAMIC) / PAGE
    }
}
