//! What was denied, on the log: as much as somebody may want to read.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use ranked_sync::Mutex;

use crate::lock_order;

/// The same denial of the same process is told again after so long.
const AGAIN: Duration = Duration::from_secs(10);
/// Different denials that are told in one go, and how many more each second.
const BURST: u32 = 200;
const PER_SECOND: f64 = 20.0;
/// Denials that are remembered.
const REMEMBERED: usize = 1024;

/// Which denials were told.
#[derive(Debug, Default)]
pub struct Denials {
    told: Mutex<lock_order::Leaf, Told>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Told {
    /// By hash, and when.
    last: HashMap<u64, Instant>,
    /// What of the burst is used up, and when that was found.
    used: f64,
    since: Option<Instant>,
    left_out: u64,
}

impl Denials {
    /// Should this be told? If so, how many were left out before it. `key`: operation, rule, process, path.
    pub(super) fn admit(
        &self,
        key: (&str, Option<usize>, i32, &[u8]),
        now: Instant,
    ) -> Option<u64> {
        let key = self.hasher.hash_one(key);
        let mut told = self.told.lock();
        let is_repeated =
            told.last.get(&key).is_some_and(|last| now.saturating_duration_since(*last) < AGAIN);
        if is_repeated || !told.has_room(now) {
            told.left_out = told.left_out.saturating_add(1);
            return None;
        }
        told.used += 1.0;
        told.last.insert(key, now);
        Some(std::mem::take(&mut told.left_out))
    }

    /// The sandbox ends: says how many were left out since the last that was told.
    pub fn finish(&self) {
        let left_out = std::mem::take(&mut self.told.lock().left_out);
        if left_out > 0 {
            tracing::warn!(target: "lazaret::files", left_out, "more denials");
        }
    }
}

impl Told {
    fn has_room(&mut self, now: Instant) -> bool {
        let passed =
            self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.since = Some(now);
        self.used = (self.used - passed.as_secs_f64() * PER_SECOND).max(0.0);
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, last| now.saturating_duration_since(*last) < AGAIN);
        }
        self.used + 1.0 <= f64::from(BURST) && self.last.len() < REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_in_a_while() {
        let denials = Denials::default();
        let start = Instant::now();
        let key = ("read", Some(1), 7, &b"/a"[..]);
        assert_eq!(denials.admit(key, start), Some(0));
        assert_eq!(denials.admit(key, start), None);
        assert_eq!(denials.admit(("write", Some(1), 7, b"/a"), start), Some(1));
        assert_eq!(denials.admit(("read", Some(1), 8, b"/a"), start), Some(0));
        assert_eq!(denials.admit(key, start + AGAIN), Some(0));
    }

    #[test]
    fn many_are_cut_short() {
        let denials = Denials::default();
        let start = Instant::now();
        let told = |from: i32, count: i32, now| {
            let paths = (from..from + count).map(|n| n.to_string());
            paths
                .filter(|path| denials.admit(("read", None, 1, path.as_bytes()), now).is_some())
                .count()
        };
        assert_eq!(told(0, 10_000, start), BURST as usize);
        assert_eq!(told(20_000, 100, start + Duration::from_secs(1)), PER_SECOND as usize);
        for round in 0..100 {
            told(round * 1000, 1000, start + Duration::from_secs(100 * round as u64));
        }
        assert!(denials.told.lock().last.len() <= REMEMBERED);
    }
}
