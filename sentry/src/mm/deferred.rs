//! Mappings that the host is not told of at once: several are told together, and some never.
//!
//! A host mapping costs a hand-off to the stub process, or its part of one after fork(2). The dynamic linker maps a library
//! piece by piece before it looks at any; a forked child seldom looks at the locales and caches that its parent mapped.
//! Where a deferred mapping is touched, the fault tells the host.
//!
//! What is in here, the host maps *nothing* at: so that nothing old is in reach, and changes need not be told either.

use std::ops::Range;

use platform::{Backing, MapOp};

use super::{
    batch::{Batch, op_range},
    pma::Pma,
    range_map::{RangeMap, RangeValue},
};

/// So many ranges at most.
const RANGES_MAX: usize = 256;

/// When the host is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// With the next change that it is told, or when it is touched.
    Change,
    /// When it is touched.
    Touch,
}

impl RangeValue for Until {
    fn advance(&mut self, _by: u64) {}

    fn joins(&self, _len: u64, next: &Self) -> bool {
        self == next
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    ranges: RangeMap<Until>,
}

impl Deferred {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.len() == 0
    }

    /// When the host is told of the mapping at `addr`, if it has not been.
    pub(super) fn find(&self, addr: u64) -> Option<(Range<u64>, Until)> {
        self.ranges.find(addr).map(|(range, until)| (range, *until))
    }

    /// Does it hold all of `range`?
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        !self.is_empty() && self.ranges.gaps(range.clone()).is_empty()
    }

    /// Adds a range where the host maps nothing; false when there are too many.
    pub(super) fn add(&mut self, range: Range<u64>, until: Until) -> bool {
        if self.ranges.len() >= RANGES_MAX {
            return false;
        }
        self.ranges.remove(range.clone());
        self.ranges.insert(range, until);
        true
    }

    /// The host is told of what is in `range`, or there is nothing any more.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        self.ranges.remove(range);
    }

    /// Takes out what waits for the next change; or all.
    pub(super) fn take(&mut self, all: bool) -> Vec<Range<u64>> {
        let is_due = |until: &Until| all || *until == Until::Change;
        let due: Vec<_> =
            self.ranges.iter().filter(|(_, until)| is_due(until)).map(|(range, _)| range).collect();
        for range in &due {
            self.ranges.remove(range.clone());
        }
        due
    }

    /// The parts of `ops` which the host must be told: where it may map something.
    pub(super) fn outside(&self, ops: &[MapOp]) -> Vec<MapOp> {
        let mut told = Vec::with_capacity(ops.len());
        for op in ops {
            let range = op_range(op);
            let start = range.start;
            told.extend(self.ranges.gaps(range).iter().map(|gap| part(op, start, gap)));
        }
        told
    }
}

/// What `op`, which starts at `start`, does to `range`.
fn part(op: &MapOp, start: u64, range: &Range<u64>) -> MapOp {
    let (addr, len) = (range.start, range.end - range.start);
    match op {
        MapOp::Map { prot, backing, populate, .. } => {
            let skipped = addr - start;
            let backing = match backing {
                Backing::Memory(memory) => Backing::Memory(memory.sub(skipped, len)),
                Backing::Host { file, offset, shared } => Backing::Host {
                    file: file.clone(),
                    offset: offset.saturating_add(skipped),
                    shared: *shared,
                },
            };
            MapOp::Map { addr, len, prot: *prot, backing, populate: *populate }
        }
        MapOp::Unmap { .. } => MapOp::Unmap { addr, len },
        MapOp::Protect { prot, .. } => MapOp::Protect { addr, len, prot: *prot },
    }
}

/// The mappings of these ranges as they are now.
pub(super) fn batch_of(pmas: &RangeMap<Pma>, ranges: &[Range<u64>]) -> Batch {
    let mut batch = Batch::default();
    for range in ranges {
        for (part, pma) in pmas.clipped(range.clone()) {
            batch.map(part, &pma, false);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use platform::{Prot, memory::FileRange};

    use super::*;

    fn map(addr: u64, len: u64, at: u64) -> MapOp {
        let backing = Backing::Memory(FileRange { start: at, end: at + len });
        MapOp::Map { addr, len, prot: Prot::READ, backing, populate: false }
    }

    fn extent(op: &MapOp) -> (u64, u64, Option<FileRange>) {
        match op {
            MapOp::Map { addr, len, backing: Backing::Memory(range), .. } => {
                (*addr, *len, Some(*range))
            }
            MapOp::Map { addr, len, .. }
            | MapOp::Unmap { addr, len }
            | MapOp::Protect { addr, len, .. } => (*addr, *len, None),
        }
    }

    #[test]
    fn changes_are_told_only_where_the_host_may_map_something() {
        let mut deferred = Deferred::default();
        assert!(deferred.add(0x2000..0x4000, Until::Touch));
        let told = deferred.outside(&[
            map(0x1000, 0x5000, 0x9000),
            MapOp::Unmap { addr: 0x2000, len: 0x1000 },
            MapOp::Protect { addr: 0x3000, len: 0x2000, prot: Prot::READ },
        ]);
        let told: Vec<_> = told.iter().map(extent).collect();
        assert_eq!(
            told,
            [
                (0x1000, 0x1000, Some(FileRange { start: 0x9000, end: 0xa000 })),
                (0x4000, 0x2000, Some(FileRange { start: 0xc000, end: 0xe000 })),
                (0x4000, 0x1000, None),
            ]
        );
    }

    #[test]
    fn what_waits_for_a_change_is_taken_alone_or_with_the_rest() {
        let mut deferred = Deferred::default();
        deferred.add(0x1000..0x3000, Until::Touch);
        deferred.add(0x2000..0x4000, Until::Change);
        assert!(deferred.covers(&(0x1000..0x4000)));
        assert!(!deferred.covers(&(0x1000..0x5000)));
        assert_eq!(deferred.find(0x1fff), Some((0x1000..0x2000, Until::Touch)));
        assert_eq!(deferred.take(false), vec![0x2000..0x4000]);
        assert_eq!(deferred.take(true), vec![0x1000..0x2000]);
        assert!(deferred.is_empty());
    }

    #[test]
    fn there_are_no_more_than_the_maximum() {
        let mut deferred = Deferred::default();
        for n in 0..RANGES_MAX as u64 {
            assert!(deferred.add(n * 0x2000..n * 0x2000 + 0x1000, Until::Touch));
        }
        assert!(!deferred.add(0xf000_0000..0xf000_1000, Until::Touch));
    }
}
