//! When a waiting reader lets bytes gather.
//!
//! A writer that makes one small write after the other would wake the reader for each: two context switches here,
//! two there, for a few bytes. So a reader may say: wake me when the pipe is nearly full, or after [`PATIENCE_NS`]. Whether that
//! pays is found by trying, for a pipe in which each write waits for an answer must not wait so: after a try in
//! which not enough came, the next one is ever longer off.

/// How long a reader lets bytes gather.
const PATIENCE_NS: u64 = 200_000;
/// A try pays when so many writes came.
const ENOUGH: u32 = 3;
/// Waits until the first try, and until the next one after the first in vain.
const FIRST_PAUSE: u16 = 16;
/// The most waits between two tries: a try in vain costs a ping-pong less than 50 ns each time on average.
const LONGEST_PAUSE: u16 = 4096;

/// The state of one pipe, under its lock.
#[derive(Debug)]
pub(super) struct Gather {
    /// A reader waits so, since so many writes.
    trying: Option<u32>,
    writes: u32,
    /// Waits until the next try.
    pause: u16,
    next_pause: u16,
}

impl Gather {
    pub(super) fn new() -> Self {
        Self { trying: None, writes: 0, pause: FIRST_PAUSE, next_pause: FIRST_PAUSE }
    }

    /// A reader found nothing and is about to sleep; `alone`: nobody else waits. Nanoseconds after which it looks again
    /// though nobody woke it.
    pub(super) fn wait(&mut self, alone: bool) -> Option<u64> {
        self.end();
        if self.pause > 0 || !alone {
            self.pause = self.pause.saturating_sub(1);
            return None;
        }
        self.trying = Some(self.writes);
        Some(PATIENCE_NS)
    }

    /// Bytes were put in. Must the reader be woken? `nearly_full`: it had better.
    pub(super) fn wrote(&mut self, nearly_full: bool) -> bool {
        self.writes = self.writes.wrapping_add(1);
        self.trying.is_none() || nearly_full
    }

    /// The reader looks, or somebody else waits too: wake at the first byte again.
    pub(super) fn end(&mut self) {
        let Some(since) = self.trying.take() else { return };
        if self.writes.wrapping_sub(since) >= ENOUGH {
            (self.pause, self.next_pause) = (0, FIRST_PAUSE);
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_try(gather: &mut Gather) {
        for _ in 0..FIRST_PAUSE {
            assert_eq!(gather.wait(true), None);
            assert!(gather.wrote(false));
            gather.end();
        }
        assert_eq!(gather.wait(true), Some(PATIENCE_NS));
    }

    #[test]
    fn where_many_writes_come_every_wait_gathers() {
        let mut gather = Gather::new();
        first_try(&mut gather);
        for _ in 0..3 {
            for _ in 0..ENOUGH {
                assert!(!gather.wrote(false));
            }
            assert!(gather.wrote(true), "a full pipe wakes");
            gather.end();
            assert_eq!(gather.wait(true), Some(PATIENCE_NS));
        }
    }

    #[test]
    fn tries_in_vain_become_rare() {
        let mut gather = Gather::new();
        first_try(&mut gather);
        let mut tries = 0;
        for _ in 0..20_000 {
            gather.wrote(false);
            gather.end();
            tries += u32::from(gather.wait(true).is_some());
        }
        assert!((9..=13).contains(&tries), "{tries} tries");
    }

    #[test]
    fn nobody_gathers_beside_others_that_wait() {
        let mut gather = Gather::new();
        first_try(&mut gather);
        gather.end();
        assert!(gather.wrote(false));
        assert_eq!(gather.wait(false), None);
    }
}
