//! A thread's sleep, ended by another thread.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::{
    thread::futex::{self, Flags, Timespec},
    time::Timespec as ClockTime,
};

/// A token for one sleeping thread. `unpark` makes the current or next `park` return; tokens
/// do not add up.
#[derive(Debug, Default)]
pub struct Parker {
    /// 1 when there is a token.
    token: AtomicU32,
}

impl Parker {
    /// Sleeps until there is a token (and takes it), or until `deadline` (nanoseconds of
    /// CLOCK_MONOTONIC). True when there was a token. May also return early for no reason.
    pub fn park(&self, deadline: Option<u64>) -> bool {
        if self.token.swap(0, Ordering::SeqCst) == 1 {
            return true;
        }
        let timeout: Option<Timespec> = deadline.map(|ns| ClockTime {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (ns % 1_000_000_000) as _,
        });
        // WAIT_BITSET takes an absolute time; a changed token, a signal or the timeout all just end the wait.
        let _ = futex::wait_bitset(
            &self.token,
            Flags::PRIVATE,
            0,
            timeout.as_ref(),
            std::num::NonZeroU32::MAX,
        );
        self.token.swap(0, Ordering::SeqCst) == 1
    }

    /// Leaves a token and wakes the sleeper, if there is one.
    pub fn unpark(&self) {
        if self.token.swap(1, Ordering::SeqCst) == 0 {
            let _ = futex::wake(&self.token, Flags::PRIVATE, 1);
        }
    }
}
