//! An ordered map from disjoint address ranges to values, split and joined as ranges change.

use std::{collections::BTreeMap, ops::Range};

/// What a range can hold.
pub(super) trait RangeValue: Clone {
    /// Becomes the value of the same range without its first `by` bytes.
    fn advance(&mut self, by: u64);

    /// May `next`, whose range starts where this one's `len` bytes end, become part of this range?
    fn joins(&self, len: u64, next: &Self) -> bool;
}

/// Disjoint, non-empty ranges of addresses with a value each.
#[derive(Clone, Debug)]
pub(super) struct RangeMap<V> {
    /// Start to (end, value).
    map: BTreeMap<u64, (u64, V)>,
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        Self { map: BTreeMap::new() }
    }
}

impl<V: RangeValue> RangeMap<V> {
    /// Number of ranges.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The range that holds `addr`.
    pub(super) fn find(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        let (&start, (end, value)) = self.map.range(..=addr).next_back()?;
        (addr < *end).then_some((start..*end, value))
    }

    /// The first range that ends above `addr`: it holds `addr` or lies behind it.
    pub(super) fn find_or_next(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        self.find(addr).or_else(|| {
            self.map.range(addr..).next().map(|(&start, (end, value))| (start..*end, value))
        })
    }

    /// The last range that starts below `addr`.
    pub(super) fn last_below(&self, addr: u64) -> Option<(Range<u64>, &V)> {
        self.map.range(..addr).next_back().map(|(&start, (end, value))| (start..*end, value))
    }

    /// All ranges, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (Range<u64>, &V)> {
        self.map.iter().map(|(&start, (end, value))| (start..*end, value))
    }

    /// The ranges that start below `addr`, from the highest down.
    pub(super) fn below(&self, addr: u64) -> impl Iterator<Item = (Range<u64>, &V)> {
        self.map.range(..addr).rev().map(|(&start, (end, value))| (start..*end, value))
    }

    /// The ranges that overlap `range`, whole, in order.
    pub(super) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &V)> {
        let first = self.find(range.start).map_or(range.start, |(found, _)| found.start);
        let last = range.end.max(first);
        self.map.range(first..last).map(|(&start, (end, value))| (start..*end, value))
    }

    /// The parts inside `range` of those ranges that overlap it, with their values cut to fit.
    pub(super) fn clipped(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, V)> {
        self.overlapping(range.clone()).map(move |(found, value)| {
            let mut value = value.clone();
            if found.start < range.start {
                value.advance(range.start - found.start);
            }
            (found.start.max(range.start)..found.end.min(range.end), value)
        })
    }

    /// The parts of `range` that nothing covers.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for (found, _) in self.overlapping(range.clone()) {
            if found.start > at {
                gaps.push(at..found.start);
            }
            at = found.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// True when nothing overlaps `range`.
    pub(super) fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Makes `addr` a boundary, if a range lies across it.
    pub(super) fn split(&mut self, addr: u64) {
        let Some((&start, (end, value))) = self.map.range_mut(..addr).next_back() else { return };
        if *end <= addr {
            return;
        }
        let mut right = value.clone();
        right.advance(addr - start);
        let right_end = std::mem::replace(end, addr);
        self.map.insert(addr, (right_end, right));
    }

    /// Takes out what lies in `range`, splitting at its ends.
    pub(super) fn remove(&mut self, range: Range<u64>) -> Vec<(Range<u64>, V)> {
        if range.is_empty() || self.is_free(range.clone()) {
            return Vec::new();
        }
        self.split(range.start);
        self.split(range.end);
        let starts: Vec<u64> = self.map.range(range).map(|(&start, _)| start).collect();
        starts
            .into_iter()
            .filter_map(|start| self.map.remove(&start).map(|(end, value)| (start..end, value)))
            .collect()
    }

    /// Puts `value` at `range`, which is free, joining it with its neighbours where they allow it.
    pub(super) fn insert(&mut self, range: Range<u64>, value: V) {
        debug_assert!(!range.is_empty() && self.is_free(range.clone()));
        let Range { mut start, end } = range;
        let (mut new_end, mut value) = (end, value);
        if let Some((_, (next_end, next))) = self.map.get_key_value(&end)
            && value.joins(end - start, next)
        {
            new_end = *next_end;
            self.map.remove(&end);
        }
        if let Some((&before, (before_end, previous))) = self.map.range(..start).next_back()
            && *before_end == start
            && previous.joins(start - before, &value)
            && let Some((_, kept)) = self.map.remove(&before)
        {
            (start, value) = (before, kept);
        }
        self.map.insert(start, (new_end, value));
    }

    /// Changes the values of what lies in `range`, splitting at its ends and joining afterwards.
    pub(super) fn update(&mut self, range: Range<u64>, mut change: impl FnMut(Range<u64>, &mut V)) {
        for (found, mut value) in self.remove(range) {
            change(found.clone(), &mut value);
            self.insert(found, value);
        }
    }

    /// Takes everything out.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Range<u64>, V)> + use<V> {
        std::mem::take(&mut self.map).into_iter().map(|(start, (end, value))| (start..end, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value with an offset, as a file mapping has.
    #[derive(Clone, Debug, PartialEq)]
    struct At(u64, char);

    impl RangeValue for At {
        fn advance(&mut self, by: u64) {
            self.0 += by;
        }
        fn joins(&self, len: u64, next: &Self) -> bool {
            self.1 == next.1 && self.0 + len == next.0
        }
    }

    fn list(map: &RangeMap<At>) -> Vec<(u64, u64, u64, char)> {
        map.iter().map(|(range, at)| (range.start, range.end, at.0, at.1)).collect()
    }

    #[test]
    fn neighbours_join_when_they_continue_each_other() {
        let mut map = RangeMap::default();
        map.insert(10..20, At(100, 'a'));
        map.insert(30..40, At(120, 'a'));
        map.insert(20..30, At(110, 'a'));
        assert_eq!(list(&map), [(10, 40, 100, 'a')]);
        map.insert(40..50, At(0, 'a'));
        map.insert(50..60, At(10, 'b'));
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn removing_the_middle_splits_and_keeps_offsets() {
        let mut map = RangeMap::default();
        map.insert(0..100, At(1000, 'a'));
        let removed = map.remove(30..60);
        assert_eq!(removed, [(30..60, At(1030, 'a'))]);
        assert_eq!(list(&map), [(0, 30, 1000, 'a'), (60, 100, 1060, 'a')]);
        assert!(map.gaps(20..70).iter().eq([&(30..60)]));
        assert!(map.is_free(30..60));
        assert!(!map.is_free(29..60));
        assert_eq!(map.find(30), None);
        assert_eq!(map.find_or_next(30).unwrap().0, 60..100);
    }

    #[test]
    fn updating_splits_and_joins_again() {
        let mut map = RangeMap::default();
        map.insert(0..100, At(0, 'a'));
        map.update(40..50, |_, at| at.1 = 'b');
        assert_eq!(list(&map), [(0, 40, 0, 'a'), (40, 50, 40, 'b'), (50, 100, 50, 'a')]);
        map.update(45..100, |_, at| at.1 = 'a');
        map.update(0..100, |_, at| at.1 = 'a');
        assert_eq!(list(&map), [(0, 100, 0, 'a')]);
    }

    #[test]
    fn clipped_cuts_both_ends() {
        let mut map = RangeMap::default();
        map.insert(0..10, At(0, 'a'));
        map.insert(20..30, At(0, 'b'));
        let parts: Vec<_> = map.clipped(5..25).collect();
        assert_eq!(parts, [(5..10, At(5, 'a')), (20..25, At(0, 'b'))]);
        assert_eq!(map.clipped(10..20).count(), 0);
    }
}
