//! Where new mappings go (`mm/mmap.c`, `arch/x86/mm/mmap.c`).

use std::ops::Range;

use platform::PAGE_SIZE;

use super::{
    state::MmState,
    vma::{Vma, VmaFlags},
};

/// `stack_guard_gap`: nothing is placed so near below a mapping that grows down.
pub(super) const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// `vm.mmap_min_addr`.
pub const MMAP_MIN_ADDR: u64 = 64 << 10;

/// Where MAP_32BIT puts things.
const LOW_RANGE: Range<u64> = 0x4000_0000..0x8000_0000;

impl MmState {
    /// A free place for `len` bytes (whole pages): at `hint` if it is free there, else as high as possible below the
    /// mmap base, else anywhere. `low`: in the first two gigabytes.
    pub(super) fn find_place(
        &self,
        user_range: &Range<u64>,
        hint: u64,
        len: u64,
        low: bool,
    ) -> Option<u64> {
        let bottom = user_range.start.max(MMAP_MIN_ADDR);
        let top = if low { LOW_RANGE.end } else { user_range.end };
        if let Some(hint) = hint.checked_next_multiple_of(PAGE_SIZE).filter(|&hint| hint >= bottom)
            && let Some(end) = hint.checked_add(len)
            && end <= top
            && self.is_placeable(hint..end)
        {
            return Some(hint);
        }
        if low {
            return self.lowest_gap(LOW_RANGE.start.max(bottom)..top, len);
        }
        self.highest_gap(bottom..self.mmap_base.min(top), len)
            .or_else(|| self.lowest_gap(self.mmap_base.max(bottom)..top, len))
    }

    /// Free, and not in the guard gap of a mapping that grows down.
    fn is_placeable(&self, range: Range<u64>) -> bool {
        self.vmas.is_free(range.clone())
            && self.vmas.find_or_next(range.end).is_none_or(|(next, vma)| {
                next.start <= range.start || range.end <= guarded_start(&next, vma)
            })
    }

    pub(super) fn highest_gap(&self, within: Range<u64>, len: u64) -> Option<u64> {
        // The mapping just above the window may keep its distance.
        let mut end = match self.vmas.find_or_next(within.end) {
            Some((next, vma)) => within.end.min(guarded_start(&next, vma)),
            None => within.end,
        };
        for (range, vma) in self.vmas.below(within.end) {
            let start = range.end.max(within.start);
            if start <= end && end - start >= len {
                return Some(end - len);
            }
            end = end.min(guarded_start(&range, vma));
            if end <= within.start {
                return None;
            }
        }
        (end >= within.start && end - within.start >= len).then(|| end - len)
    }

    fn lowest_gap(&self, within: Range<u64>, len: u64) -> Option<u64> {
        let mut start = within.start;
        for (range, vma) in self.vmas.overlapping(within.clone()) {
            let end = guarded_start(&range, vma);
            if start <= end && end - start >= len {
                return Some(start);
            }
            start = start.max(range.end);
        }
        (start <= within.end && within.end - start >= len).then_some(start)
    }
}

/// Where a mapping starts, with the gap it needs below.
fn guarded_start(range: &Range<u64>, vma: &Vma) -> u64 {
    if vma.flags.contains(VmaFlags::GROWSDOWN) {
        range.start.saturating_sub(STACK_GUARD_GAP)
    } else {
        range.start
    }
}
