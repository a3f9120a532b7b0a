//! What is mapped in an address space: page tables are made from it, and may be made again.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::files::FileWindow;
use crate::Prot;

/// Where the bytes of a region are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// In the memory file, from this offset on.
    Memory(u64),
    /// In a mapped file, from this offset of the window on.
    File(Arc<FileWindow>, u64),
}

impl Source {
    /// The same, `by` bytes on.
    fn advance(&self, by: u64) -> Self {
        match self {
            Self::Memory(offset) => Self::Memory(offset + by),
            Self::File(window, offset) => Self::File(window.clone(), offset + by),
        }
    }

    /// Whether `next` goes on where this ends after `len` bytes.
    fn continues(&self, len: u64, next: &Self) -> bool {
        match (self, next) {
            (Self::Memory(offset), Self::Memory(next)) => offset + len == *next,
            (Self::File(window, offset), Self::File(other, next)) => {
                Arc::ptr_eq(window, other) && offset + len == *next
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) end: u64,
    pub(super) prot: Prot,
    pub(super) source: Source,
}

/// See the module. Regions by start; they do not overlap.
#[derive(Debug, Default)]
pub(super) struct Regions(BTreeMap<u64, Region>);

impl Regions {
    /// The region at `addr`: where it starts, and what it is.
    pub(super) fn at(&self, addr: u64) -> Option<(u64, &Region)> {
        let (start, region) = self.0.range(..=addr).next_back()?;
        (addr < region.end).then_some((*start, region))
    }

    /// The parts of regions in the range: what is where.
    pub(super) fn parts(&self, range: Range<u64>) -> Vec<(Range<u64>, Prot, Source)> {
        let first = self.at(range.start).map_or(range.start, |(start, _)| start);
        let part = |(start, region): (&u64, &Region)| {
            let from = range.start.max(*start);
            let source = region.source.advance(from - start);
            (from..region.end.min(range.end), region.prot, source)
        };
        self.0.range(first..range.end).map(part).collect()
    }

    /// Puts a region in place of what is there.
    pub(super) fn insert(&mut self, range: Range<u64>, prot: Prot, source: Source) {
        self.remove(range.clone());
        let (mut start, mut end, mut source) = (range.start, range.end, source);
        if let Some((&before, region)) = self.0.range(..start).next_back()
            && region.end == start
            && region.prot == prot
            && region.source.continues(start - before, &source)
        {
            source = region.source.clone();
            start = before;
        }
        if let Some(after) = self.0.get(&end)
            && after.prot == prot
            && source.continues(end - start, &after.source)
        {
            let after_end = after.end;
            self.0.remove(&end);
            end = after_end;
        }
        self.0.insert(start, Region { end, prot, source });
    }

    /// Leaves nothing there.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        self.split_at(range.start);
        self.split_at(range.end);
        let inside: Vec<u64> = self.0.range(range).map(|(start, _)| *start).collect();
        for start in inside {
            self.0.remove(&start);
        }
    }

    fn split_at(&mut self, at: u64) {
        if let Some((&start, region)) = self.0.range_mut(..at).next_back()
            && region.end > at
        {
            let upper = Region { source: region.source.advance(at - start), ..region.clone() };
            region.end = at;
            self.0.insert(at, upper);
        }
    }

    /// True when there is no gap in the range.
    pub(super) fn covers(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.at(at) {
                Some((_, region)) => at = region.end,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(regions: &Regions, range: Range<u64>) -> Vec<(Range<u64>, u64)> {
        let offset = |source: Source| match source {
            Source::Memory(offset) => offset,
            Source::File(..) => u64::MAX,
        };
        regions.parts(range).into_iter().map(|(range, _, source)| (range, offset(source))).collect()
    }

    #[test]
    fn neighbours_that_go_on_are_one() {
        let mut regions = Regions::default();
        regions.insert(10..20, Prot::READ, Source::Memory(110));
        regions.insert(30..40, Prot::READ, Source::Memory(130));
        regions.insert(20..30, Prot::READ, Source::Memory(120));
        assert_eq!(regions.0.len(), 1);
        assert_eq!(sources(&regions, 15..35), [(15..35, 115)]);
        regions.insert(40..50, Prot::WRITE, Source::Memory(140));
        assert_eq!(regions.0.len(), 2);
        assert!(regions.covers(12..48));
        assert!(!regions.covers(12..51));
    }

    #[test]
    fn a_hole_leaves_both_sides() {
        let mut regions = Regions::default();
        regions.insert(10..40, Prot::READ, Source::Memory(110));
        regions.remove(20..25);
        assert_eq!(sources(&regions, 0..100), [(10..20, 110), (25..40, 125)]);
        assert!(regions.at(20).is_none());
        assert_eq!(regions.at(39).map(|found| found.0), Some(25));
        regions.insert(0..100, Prot::READ, Source::Memory(0));
        assert_eq!(sources(&regions, 0..100), [(0..100, 0)]);
    }
}
