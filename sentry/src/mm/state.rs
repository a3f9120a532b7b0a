//! What the VMA lock protects.

use std::{ops::Range, sync::Arc};

use linux_abi::Errno;
use platform::{
    PAGE_SIZE, Prot,
    memory::{FileRange, MemoryFile},
};

use super::{
    batch::Batch,
    deferred::{Deferred, Until},
    pma::{Owner, Place, Pma},
    range_map::RangeMap,
    vma::{Vma, VmaFlags},
};
use crate::vfs::FileDescription;

/// Ranges of the memory file that lose a count once the host no longer maps them.
pub(super) type Freed = Vec<FileRange>;

/// Up to so many bytes at a time are taken from memory which the host holds already: where the program asked for memory,
/// and where it made some accessible, as for the stacks of threads, of which little is used.
const PRESENT_MAX: u64 = 2 << 20;
const PRESENT_ELSEWHERE_MAX: u64 = 256 << 10;
/// From this on also when it is not next to the memory before.
const PRESENT_APART_MIN: u64 = 64 << 10;
/// Larger private mappings (reservations by sanitizers and runtimes) are not given memory-file offsets at once but
/// piece by piece, at faults.
pub(super) const EAGER_MAX: u64 = 4 << 30;
/// Such a piece.
pub(super) const LAZY_CHUNK: u64 = 16 << 20;

/// `vm.max_map_count`.
pub(super) const MAX_MAP_COUNT: usize = 65530;

/// Where things are in an image, for prctl(2), brk(2) and /proc.
#[derive(Clone, Debug, Default)]
pub struct ImageInfo {
    /// /proc/PID/exe.
    pub exe: Option<Arc<FileDescription>>,
    pub code: Range<u64>,
    pub data: Range<u64>,
    pub brk_start: u64,
    pub brk: u64,
    /// The stack pointer at the start.
    pub stack_start: u64,
    pub args: Range<u64>,
    pub env: Range<u64>,
    pub auxv: Arc<[u8]>,
    /// The vDSO's address; 0 when there is none.
    pub vdso: u64,
}

/// VMAs, page ranges, and sums over them.
#[derive(Debug)]
pub(super) struct MmState {
    pub(super) vmas: RangeMap<Vma>,
    pub(super) pmas: RangeMap<Pma>,
    /// Bytes of all VMAs (RLIMIT_AS).
    pub(super) total: u64,
    /// Bytes of private writable ones (RLIMIT_DATA).
    pub(super) data: u64,
    /// Bytes of locked ones (RLIMIT_MEMLOCK).
    pub(super) locked: u64,
    /// Flags for new mappings: mlockall(MCL_FUTURE).
    pub(super) default_flags: VmaFlags,
    /// Top-down placement starts here.
    pub(super) mmap_base: u64,
    pub(super) image: ImageInfo,
    /// The host is not told of changes yet; see `MemoryManager::start_building`.
    pub(super) is_building: bool,
    /// Of a child of fork that the host has not heard of: what was copied, in order.
    pub(super) copied: Vec<Range<u64>>,
    /// What the host is told of later.
    pub(super) deferred: Deferred,
    /// VMAs taken out; dropped once the lock is free, as the last use of a file may do a lot.
    pub(super) removed: Vec<Vma>,
}

/// What of new memory is put into the host's page tables at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Populate {
    /// Next to nothing.
    Little,
    /// What the host holds already: a page costs 0.2 µs then, used or not, and 2 µs by a fault.
    Present,
    /// Everything.
    All,
}

impl Populate {
    /// For memory that a program asks for.
    pub(super) fn asked_for(all: bool) -> Self {
        if all { Self::All } else { Self::Present }
    }
}

/// Memory for `len` bytes that the host holds already, if there is some. A mapping that goes on with other memory than
/// the one before it is one more for the host to keep and for fork(2) to copy, so that must be worth it.
fn present_memory(
    memory: &MemoryFile,
    len: u64,
    near: Option<u64>,
    populate: Populate,
) -> Option<FileRange> {
    let max = if populate == Populate::Little { PRESENT_ELSEWHERE_MAX } else { PRESENT_MAX };
    if len > max {
        return None;
    }
    if near.is_some() {
        let next = memory.allocate_present(len, near);
        if next.is_some() || len < PRESENT_APART_MIN {
            return next;
        }
    }
    memory.allocate_present(len, None)
}

impl MmState {
    pub(super) fn new(mmap_base: u64) -> Self {
        Self {
            vmas: RangeMap::default(),
            pmas: RangeMap::default(),
            total: 0,
            data: 0,
            locked: 0,
            default_flags: VmaFlags::empty(),
            mmap_base,
            image: ImageInfo::default(),
            is_building: false,
            copied: Vec::new(),
            deferred: Deferred::default(),
            removed: Vec::new(),
        }
    }

    fn account(&mut self, len: u64, vma: &Vma, add: bool) {
        let change = |sum: &mut u64| {
            *sum = if add { sum.saturating_add(len) } else { sum.saturating_sub(len) };
        };
        change(&mut self.total);
        if vma.is_data() {
            change(&mut self.data);
        }
        if vma.flags.contains(VmaFlags::LOCKED) {
            change(&mut self.locked);
        }
    }

    /// Adds a VMA in a free range.
    pub(super) fn insert_vma(&mut self, range: Range<u64>, vma: Vma) {
        self.account(range.end - range.start, &vma, true);
        self.vmas.insert(range, vma);
    }

    /// Takes VMAs out of `range` for good.
    pub(super) fn discard_vmas(&mut self, range: Range<u64>) {
        for (_, vma) in self.take_vmas(range) {
            if !vma.is_anonymous() {
                self.removed.push(vma);
            }
        }
    }

    /// Takes VMAs out of `range`, to be put back somewhere.
    pub(super) fn take_vmas(&mut self, range: Range<u64>) -> Vec<(Range<u64>, Vma)> {
        let removed = self.vmas.remove(range);
        for (part, vma) in &removed {
            self.account(part.end - part.start, vma, false);
        }
        removed
    }

    /// Changes the VMAs in `range`.
    pub(super) fn update_vmas(&mut self, range: Range<u64>, mut change: impl FnMut(&mut Vma)) {
        for (part, mut vma) in self.take_vmas(range) {
            change(&mut vma);
            self.insert_vma(part, vma);
        }
    }

    /// Takes page ranges out of `range`; their memory goes to `freed`. True when there were any.
    pub(super) fn remove_pmas(&mut self, range: Range<u64>, freed: &mut Freed) -> bool {
        let removed = self.pmas.remove(range);
        for (part, pma) in &removed {
            freed.extend(pma.memory(part.end - part.start));
        }
        !removed.is_empty()
    }

    /// A new mapping is put at `range`. `unseen`: nothing was mapped there on the host, though something should have
    /// been. `is_part`: it may wait for others, and there was nothing.
    pub(super) fn defer(&mut self, range: &Range<u64>, unseen: bool, is_part: bool) {
        if is_part {
            self.deferred.add(range.clone(), Until::Change);
        } else if !unseen {
            self.deferred.remove(range.clone());
        }
    }

    /// The end of the covered prefix of `range`: where the first hole is.
    pub(super) fn covered_until(&self, range: &Range<u64>) -> u64 {
        let mut at = range.start;
        for (part, _) in self.vmas.overlapping(range.clone()) {
            if part.start > at {
                break;
            }
            at = part.end.min(range.end);
        }
        at
    }

    /// Gives all accessible private anonymous memory in `range` that has no place yet its zero pages. `populate`: how
    /// much of the host's page tables is filled in too.
    pub(super) fn fill_anonymous(
        &mut self,
        memory: &MemoryFile,
        range: Range<u64>,
        batch: &mut Batch,
        populate: Populate,
    ) -> Result<(), Errno> {
        let wanted: Vec<_> = self
            .vmas
            .overlapping(range.clone())
            .filter(|(part, vma)| {
                vma.is_anonymous() && !vma.prot.is_empty() && part.end - part.start <= EAGER_MAX
            })
            .map(|(part, vma)| (part.start.max(range.start)..part.end.min(range.end), vma.prot))
            .collect();
        for (part, prot) in wanted {
            for gap in self.pmas.gaps(part) {
                self.fill_gap(memory, gap, prot, batch, populate)?;
            }
        }
        Ok(())
    }

    /// Gives `gap`, which has no place and lies in a private anonymous VMA, zero pages.
    pub(super) fn fill_gap(
        &mut self,
        memory: &MemoryFile,
        gap: Range<u64>,
        prot: Prot,
        batch: &mut Batch,
        populate: Populate,
    ) -> Result<(), Errno> {
        let len = gap.end - gap.start;
        let near = self.memory_before(gap.start);
        let present = present_memory(memory, len, near, populate);
        let place = match present {
            Some(place) => place,
            None => memory.allocate(len, near)?,
        };
        if populate == Populate::All && present.is_none() {
            // Committing is only an optimization: without it pages come at first touch.
            let _ = memory.commit(place);
        }
        let pma = Pma { prot, owner: Owner::Own, place: Place::own(place) };
        batch.map(gap.clone(), &pma, present.is_some() || populate == Populate::All);
        self.pmas.insert(gap, pma);
        Ok(())
    }

    /// Where the memory of the pages right before `addr` ends: new memory there keeps one host mapping.
    pub(super) fn memory_before(&self, addr: u64) -> Option<u64> {
        let (range, pma) = self.pmas.find(addr.checked_sub(PAGE_SIZE)?)?;
        match pma.place {
            Place::Memory { offset, cow: false } if pma.owner == Owner::Own => {
                offset.checked_add(range.end - range.start)
            }
            _ => None,
        }
    }
}
