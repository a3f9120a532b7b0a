//! VMAs: what the guest asked for.

use std::{fmt, sync::Arc};

use bitflags::bitflags;
use platform::Prot;

use super::range_map::RangeValue;
use crate::vfs::{FileDescription, Mappable};

bitflags! {
    /// Properties of a mapping (`VM_*` in Linux).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct VmaFlags: u32 {
        /// MAP_SHARED.
        const SHARED = 1;
        /// Grows down to a fault below it (the stack, MAP_GROWSDOWN).
        const GROWSDOWN = 1 << 1;
        /// mlock(2).
        const LOCKED = 1 << 2;
        /// MADV_DONTFORK.
        const DONTFORK = 1 << 3;
        /// MADV_DONTDUMP.
        const DONTDUMP = 1 << 4;
        /// MADV_WIPEONFORK.
        const WIPEONFORK = 1 << 5;
        /// MAP_NORESERVE.
        const NORESERVE = 1 << 6;
        /// MLOCK_ONFAULT.
        const LOCKONFAULT = 1 << 7;
        /// The vDSO: may not grow, is not merged.
        const VDSO = 1 << 8;
        /// MADV_HUGEPAGE.
        const HUGEPAGE = 1 << 9;
        /// MADV_NOHUGEPAGE.
        const NOHUGEPAGE = 1 << 10;
        /// MADV_SEQUENTIAL.
        const SEQUENTIAL = 1 << 11;
        /// MADV_RANDOM.
        const RANDOM = 1 << 12;
        /// The initial stack.
        const STACK = 1 << 13;
        /// mseal(2).
        const SEALED = 1 << 14;
    }
}

/// A mapped object. `file` is `None` for shared anonymous memory.
pub struct MappedFile {
    pub mappable: Arc<dyn Mappable>,
    pub file: Option<Arc<FileDescription>>,
}

impl MappedFile {
    /// May a private mapping take copies of pages which the guest has not written? Then it no longer sees what
    /// others write to the file; no one does that to programs and libraries, which are opened for reading only.
    pub(super) fn may_copy_early(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !file.is_writable())
    }

    /// Do both map the same open file?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || match (&self.file, &other.file) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({:?})", self.mappable)
    }
}

/// Where pages come from that are not there yet.
#[derive(Clone, Debug)]
pub enum Source {
    /// Private zero pages.
    Anonymous,
    /// An object, from `offset` on.
    File { file: Arc<MappedFile>, offset: u64 },
}

/// One mapping (`struct vm_area_struct`), without its range.
#[derive(Clone, Debug)]
pub struct Vma {
    pub prot: Prot,
    /// What mprotect(2) may give.
    pub max_prot: Prot,
    pub flags: VmaFlags,
    pub source: Source,
    /// PR_SET_VMA_ANON_NAME.
    pub name: Option<Arc<[u8]>>,
}

impl Vma {
    pub(super) fn is_shared(&self) -> bool {
        self.flags.contains(VmaFlags::SHARED)
    }

    pub(super) fn is_anonymous(&self) -> bool {
        matches!(self.source, Source::Anonymous)
    }

    /// Counts towards RLIMIT_DATA (`is_data_mapping` in `mm/internal.h`).
    pub(super) fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE)
            && !self.flags.intersects(VmaFlags::SHARED | VmaFlags::GROWSDOWN)
    }

    /// May the guest touch it in this way? On x86 each accessible page is readable.
    pub(super) fn allows(&self, access: platform::AccessKind) -> bool {
        match access {
            platform::AccessKind::Read => !self.prot.is_empty(),
            platform::AccessKind::Write => self.prot.contains(Prot::WRITE),
            platform::AccessKind::Execute => self.prot.contains(Prot::EXEC),
        }
    }
}

impl RangeValue for Vma {
    fn advance(&mut self, by: u64) {
        if let Source::File { offset, .. } = &mut self.source {
            *offset = offset.wrapping_add(by);
        }
    }

    fn joins(&self, len: u64, next: &Self) -> bool {
        self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::VDSO)
            && self.name == next.name
            && match (&self.source, &next.source) {
                (Source::Anonymous, Source::Anonymous) => true,
                (
                    Source::File { file: a, offset: at },
                    Source::File { file: b, offset: next_at },
                ) => at.checked_add(len) == Some(*next_at) && a.is_same(b),
                _ => false,
            }
    }
}
