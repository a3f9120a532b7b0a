//! Where things are in guest-physical memory, and in the supervisor half of every address space.
//!
//! ```text
//! guest-physical                       virtual, ring 0 only
//! 4 GiB    system area ─────────────── SYSTEM_VA
//!            stub code, IDT, page tables, two pages a vCPU
//!            stub code again and again, each time
//!            with a vCPU's first page behind it ── ENTRIES_VA
//! 20 GiB   the host's vDSO and its data          HOST_VDSO, for ring 3 too, not to be written
//! then     host files, as they are mapped
//! then     pieces of the memory file, as they are first used
//! ```
//!
//! The system area is never mapped for ring 3. Below 4 GiB is nothing: processors and KVM have
//! places of their own there.

/// The system area.
pub(super) const SYSTEM_GPA: u64 = 4 << 30;
pub(super) const SYSTEM_VA: u64 = 0xffff_8000_0000_0000;
/// It grows by so much, up to so many times.
pub(super) const BANK: u64 = 64 << 20;
pub(super) const BANK_COUNT: usize = 256;

/// Fixed pages in it: offsets from its start. The first large page is mapped page by page.
pub(super) const CODE: u64 = 0x1000;
pub(super) const IDT: u64 = 0x2000;
/// The upper tables of the supervisor half, shared by all address spaces.
pub(super) const SHARED_PDPT: u64 = 0x3000;
pub(super) const SHARED_PD: u64 = 0x4000;
/// One for each GiB of the area.
pub(super) const SHARED_PD_COUNT: u64 = (BANK * BANK_COUNT as u64) >> 30;
pub(super) const SHARED_PT: u64 = SHARED_PD + SHARED_PD_COUNT * PAGE;
/// Tables for the ways in of vCPUs.
pub(super) const ENTRIES_PD: u64 = SHARED_PT + PAGE;
pub(super) const ENTRIES_PT: u64 = ENTRIES_PD + PAGE;
/// Tables for the host's vDSO, shared by all address spaces.
pub(super) const VDSO_PD: u64 = ENTRIES_PT + PAGE;
pub(super) const VDSO_PT: u64 = VDSO_PD + PAGE;
/// A root without guest memory, which vCPUs start with.
pub(super) const FIRST_ROOT: u64 = VDSO_PT + PAGE;
/// From here on pages are handed out.
pub(super) const DYNAMIC: u64 = LARGE_PAGE;

pub(super) const PAGE: u64 = 4096;
pub(super) const LARGE_PAGE: u64 = 2 << 20;
/// The entry of a root for the supervisor half.
pub(super) const SYSTEM_ROOT_ENTRY: usize = 256;
/// The entry for the addresses round the end of guest memory.
pub(super) const TOP_ROOT_ENTRY: usize = 255;

/// Ways in of vCPUs, behind the system area: for so many, of two pages each.
pub(super) const ENTRIES_VA: u64 = SYSTEM_VA + BANK * BANK_COUNT as u64;
pub(super) const ENTRIES_MAX: u64 = 256;
pub(super) const ENTRY_SIZE: u64 = 2 * PAGE;

/// The host's vDSO, and at most so much.
pub(super) const VDSO_GPA: u64 = SYSTEM_GPA + BANK * BANK_COUNT as u64;
pub(super) const VDSO_MAX: u64 = 1 << 20;

/// Maps of host files: so much, but no more than a quarter of what the processor can address.
pub(super) const FILES_GPA: u64 = VDSO_GPA + CHUNK;
pub(super) const FILES_MAX: u64 = 256 << 30;
/// Pieces of the memory file and of the file area become slots of this size when they are first used.
pub(super) const CHUNK: u64 = 256 << 20;

/// The virtual address of a page of the system area.
pub(super) const fn system_va(gpa: u64) -> u64 {
    gpa - SYSTEM_GPA + SYSTEM_VA
}

/// Page-table entries (AMD64 Architecture Programmer's Manual, volume 2, 5.4).
pub(super) const PRESENT: u64 = 1;
pub(super) const WRITABLE: u64 = 2;
pub(super) const USER: u64 = 4;
/// Accessed and dirty, set from the start: nobody asks, and the processor need not.
pub(super) const USED: u64 = 0x60;
pub(super) const LARGE: u64 = 0x80;
pub(super) const NO_EXECUTE: u64 = 1 << 63;
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Which entry of a table at this level is for `va`; level 1 has the pages.
pub(super) fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * (level - 1)) & 511) as usize
}

/// Selectors, laid out as Linux does.
pub(super) const KERNEL_CODE: u16 = 0x10;
pub(super) const KERNEL_DATA: u16 = 0x18;
pub(super) const USER_CODE_32: u16 = 0x23;
pub(super) const TASK: u16 = 0x40;

/// A vCPU's two pages: descriptors and commands, then stacks.
pub(super) const V_GDT: u64 = 0;
pub(super) const V_TSS: u64 = 0x80;
pub(super) const TSS_LIMIT: u64 = 0x67;
/// Words of 32 bits: not zero while the others hold, then the answers.
pub(super) const V_ANSWERS: u64 = 0x100;
pub(super) const V_COMMANDS: u64 = 0x200;
/// So many fit; each is an address and a count of entries.
pub(super) const COMMANDS_MAX: usize = 200;
/// The stack of vectors that may come at any moment.
pub(super) const V_SPECIAL_STACK: u64 = 0x1800;
pub(super) const V_STACK: u64 = 0x2000;
pub(super) const VCPU_PAGES: u64 = 2;
