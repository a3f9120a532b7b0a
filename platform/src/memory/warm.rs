//! Free pages which the host still holds, all zero: handing them out again costs neither the host a page fault and a
//! fresh page, nor us a hole punched in the file. That is several microseconds a page.

use std::collections::BTreeMap;

use super::{FileRange, space::join_neighbours};

/// How many runs are looked at for one that is large enough.
const FIT_TRIES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Warm {
    /// Start -> end; merged.
    runs: BTreeMap<u64, u64>,
    bytes: u64,
    max: u64,
}

impl Warm {
    /// At most `max` bytes.
    pub(super) fn new(max: u64) -> Self {
        Self { runs: BTreeMap::new(), bytes: 0, max }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes more there may be.
    pub(super) fn room(&self) -> u64 {
        self.max.saturating_sub(self.bytes)
    }

    /// Adds a range; false when there is no room for it.
    pub(super) fn put(&mut self, range: FileRange) -> bool {
        if range.len() > self.room() {
            return false;
        }
        self.bytes += range.len();
        let (start, end) = join_neighbours(&mut self.runs, range.start, range.end);
        self.runs.insert(start, end);
        true
    }

    /// Takes `len` bytes, from the smallest suitable run of the first ones.
    pub(super) fn take(&mut self, len: u64) -> Option<FileRange> {
        let runs = self.runs.iter().take(FIT_TRIES).map(|(start, end)| (*start, end - start));
        let (start, _) = runs.filter(|(_, size)| *size >= len).min_by_key(|(_, size)| *size)?;
        self.take_at(start, len)
    }

    /// Takes the `len` bytes from `start` on.
    pub(super) fn take_at(&mut self, start: u64, len: u64) -> Option<FileRange> {
        let range = FileRange { start, end: start.checked_add(len)? };
        let (&run_start, &run_end) = self.runs.range(..=start).next_back()?;
        if run_end < range.end {
            return None;
        }
        self.runs.remove(&run_start);
        if run_start < range.start {
            self.runs.insert(run_start, range.start);
        }
        if range.end < run_end {
            self.runs.insert(range.end, run_end);
        }
        self.bytes -= len;
        Some(range)
    }

    /// Takes all there is.
    pub(super) fn take_all(&mut self) -> Vec<FileRange> {
        self.bytes = 0;
        let runs = std::mem::take(&mut self.runs);
        runs.into_iter().map(|(start, end)| FileRange { start, end }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> FileRange {
        FileRange { start, end }
    }

    #[test]
    fn neighbours_join_and_are_taken_apart() {
        let mut warm = Warm::new(100);
        for part in [range(0, 10), range(20, 30), range(10, 20)] {
            assert!(warm.put(part));
        }
        assert_eq!(warm.take_at(5, 20), Some(range(5, 25)));
        assert_eq!(warm.take_at(5, 1), None);
        assert_eq!(warm.take_at(25, 6), None);
        assert_eq!((warm.bytes(), warm.room()), (10, 90));
        assert_eq!(warm.take_all(), [range(0, 5), range(25, 30)]);
        assert_eq!(warm.bytes(), 0);
    }

    #[test]
    fn the_smallest_run_that_suffices_is_taken() {
        let mut warm = Warm::new(100);
        for part in [range(0, 30), range(40, 52), range(60, 65)] {
            assert!(warm.put(part));
        }
        assert_eq!(warm.take(11), Some(range(40, 51)));
        assert_eq!(warm.take(31), None);
    }

    #[test]
    fn there_is_no_more_than_the_maximum() {
        let mut warm = Warm::new(10);
        assert!(!warm.put(range(0, 11)));
        assert!(warm.put(range(0, 10)));
        assert!(!warm.put(range(20, 21)));
        assert_eq!(warm.bytes(), 10);
    }
}
