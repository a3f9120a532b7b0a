//! Which pages of the memory file are in use, how often, and which are free.
//!
//! Counts are kept per interval of equal count, so that a gigabyte mapped once is one
//! entry, and so is the same gigabyte shared by two processes after fork.

use std::collections::BTreeMap;

use super::FileRange;

/// How many free ranges are looked at before fresh space is taken.
const FIRST_FIT_TRIES: usize = 32;

#[derive(Debug)]
pub(super) struct Space {
    /// Start of an interval -> its end and how often each of its pages is counted.
    /// Intervals do not overlap; neighbours with equal counts are merged.
    counted: BTreeMap<u64, Counted>,
    /// Start -> end of space that was given back, below `fresh`; merged.
    free: BTreeMap<u64, u64>,
    /// From here on nothing was ever handed out.
    fresh: u64,
    size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    end: u64,
    count: u64,
}

impl Space {
    pub(super) fn new(size: u64) -> Self {
        Self { counted: BTreeMap::new(), free: BTreeMap::new(), fresh: 0, size }
    }

    /// Takes `len` bytes, counted once; `None` when there is no such run of pages.
    pub(super) fn allocate(&mut self, len: u64, near: Option<u64>) -> Option<FileRange> {
        let start = near
            .and_then(|near| self.take_at(near, len))
            .or_else(|| self.take_free(len, FIRST_FIT_TRIES))
            .or_else(|| self.take_fresh(len))
            .or_else(|| self.take_free(len, usize::MAX))?;
        let range = FileRange { start, end: start + len };
        self.count(range);
        Some(range)
    }

    /// Counts pages once which are neither counted nor free.
    pub(super) fn count(&mut self, range: FileRange) {
        self.counted.insert(range.start, Counted { end: range.end, count: 1 });
        self.merge_around(range);
    }

    fn take_at(&mut self, start: u64, len: u64) -> Option<u64> {
        if start == self.fresh {
            return self.take_fresh(len);
        }
        let (&free_start, &free_end) = self.free.range(..=start).next_back()?;
        if start.checked_add(len)? > free_end {
            return None;
        }
        self.free.remove(&free_start);
        if free_start < start {
            self.free.insert(free_start, start);
        }
        if start + len < free_end {
            self.free.insert(start + len, free_end);
        }
        Some(start)
    }

    fn take_free(&mut self, len: u64, tries: usize) -> Option<u64> {
        let start =
            self.free.iter().take(tries).find(|&(start, end)| end - start >= len).map(|f| *f.0)?;
        self.take_at(start, len)
    }

    fn take_fresh(&mut self, len: u64) -> Option<u64> {
        let start = self.fresh;
        let end = start.checked_add(len).filter(|end| *end <= self.size)?;
        self.fresh = end;
        Some(start)
    }

    pub(super) fn retain(&mut self, range: FileRange) {
        self.change(range, |count| count.saturating_add(1));
    }

    /// Counts once less; returns what nobody counts any more. It is not free yet:
    /// [`Self::give_back`] makes it so, once its bytes are gone.
    pub(super) fn release(&mut self, range: FileRange) -> Vec<FileRange> {
        self.change(range, |count| count.saturating_sub(1))
    }

    /// Makes a range free that [`Self::release`] returned.
    pub(super) fn give_back(&mut self, range: FileRange) {
        if range.is_empty() {
            return;
        }
        let (start, end) = join_neighbours(&mut self.free, range.start, range.end);
        if end == self.fresh {
            self.fresh = start;
        } else {
            self.free.insert(start, end);
        }
    }

    pub(super) fn is_sole(&self, range: FileRange) -> bool {
        let mut at = range.start;
        while at < range.end {
            match self.counted.range(..=at).next_back() {
                Some((_, counted)) if counted.end > at && counted.count == 1 => at = counted.end,
                _ => return false,
            }
        }
        true
    }

    /// Applies `f` to the count of each page in the range; returns the pages, merged,
    /// whose count became zero. Pages that are not counted are a mistake of the
    /// caller, and are left alone.
    fn change(&mut self, range: FileRange, f: impl Fn(u64) -> u64) -> Vec<FileRange> {
        self.split_at(range.start);
        self.split_at(range.end);
        let inside: Vec<(u64, Counted)> =
            self.counted.range(range.start..range.end).map(|(s, c)| (*s, *c)).collect();
        debug_assert_eq!(
            inside.iter().map(|(start, counted)| counted.end - start).sum::<u64>(),
            range.end - range.start,
            "all pages of {range:?} must be in use"
        );
        let mut dead: Vec<FileRange> = Vec::new();
        for (start, counted) in inside {
            let count = f(counted.count);
            if count > 0 {
                self.counted.insert(start, Counted { count, ..counted });
                continue;
            }
            self.counted.remove(&start);
            match dead.last_mut() {
                Some(last) if last.end == start => last.end = counted.end,
                _ => dead.push(FileRange { start, end: counted.end }),
            }
        }
        self.merge_around(range);
        dead
    }

    fn split_at(&mut self, at: u64) {
        if let Some((_, counted)) = self.counted.range_mut(..at).next_back()
            && counted.end > at
        {
            let upper = *counted;
            counted.end = at;
            self.counted.insert(at, upper);
        }
    }

    /// Joins equal neighbours in and at the edges of the range.
    fn merge_around(&mut self, range: FileRange) {
        let first = self.counted.range(..range.start).next_back().map_or(range.start, |e| *e.0);
        let mut starts = self.counted.range(first..=range.end).map(|e| *e.0).collect::<Vec<_>>();
        starts.reverse();
        for pair in starts.windows(2) {
            let [upper, lower] = pair else { continue };
            let (Some(high), Some(low)) = (self.counted.get(upper), self.counted.get(lower)) else {
                continue;
            };
            if low.end == *upper && low.count == high.count {
                let merged = Counted { end: high.end, count: high.count };
                self.counted.remove(upper);
                self.counted.insert(*lower, merged);
            }
        }
    }
}

/// Takes out of `ranges` (start -> end) those which touch `start..end`; all of it together.
pub(crate) fn join_neighbours(
    ranges: &mut BTreeMap<u64, u64>,
    mut start: u64,
    mut end: u64,
) -> (u64, u64) {
    if let Some((&before, &before_end)) = ranges.range(..start).next_back()
        && before_end == start
    {
        ranges.remove(&before);
        start = before;
    }
    if let Some(after_end) = ranges.remove(&end) {
        end = after_end;
    }
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> FileRange {
        FileRange { start, end }
    }

    #[test]
    fn near_continues_a_range_and_counts_merge() {
        let mut space = Space::new(1000);
        let a = space.allocate(10, None).unwrap();
        let b = space.allocate(10, Some(a.end)).unwrap();
        assert_eq!((a, b), (range(0, 10), range(10, 20)));
        assert_eq!(space.counted.len(), 1);
        assert!(space.is_sole(range(5, 15)));
    }

    #[test]
    fn counts_split_and_join() {
        let mut space = Space::new(1000);
        space.allocate(30, None).unwrap();
        space.retain(range(10, 20));
        assert_eq!(space.counted.len(), 3);
        assert!(!space.is_sole(range(0, 30)));
        assert!(space.is_sole(range(20, 30)));
        assert_eq!(space.release(range(0, 30)), [range(0, 10), range(20, 30)]);
        assert_eq!(space.release(range(10, 20)), [range(10, 20)]);
        assert!(space.counted.is_empty());
        assert!(!space.is_sole(range(0, 1)));
    }

    #[test]
    fn what_was_given_back_is_used_again() {
        let mut space = Space::new(100);
        let whole = space.allocate(100, None).unwrap();
        assert_eq!(space.allocate(1, None), None);
        space.release(whole.sub(20, 30));
        assert_eq!(space.allocate(1, None), None, "not before its bytes are gone");
        space.give_back(range(20, 50));
        assert_eq!(space.allocate(31, None), None);
        assert_eq!(space.allocate(5, Some(30)), Some(range(30, 35)));
        assert_eq!(space.allocate(10, None), Some(range(20, 30)));
        assert_eq!(space.allocate(15, None), Some(range(35, 50)));
    }

    #[test]
    fn neighbours_given_back_join_and_the_end_becomes_fresh() {
        let mut space = Space::new(100);
        space.allocate(60, None).unwrap();
        space.release(range(0, 60));
        for part in [range(0, 20), range(40, 60), range(20, 40)] {
            space.give_back(part);
        }
        assert_eq!((space.fresh, space.free.len()), (0, 0));
        assert_eq!(space.allocate(100, None), Some(range(0, 100)));
    }
}
