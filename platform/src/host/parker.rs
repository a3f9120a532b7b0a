//! Parking a host thread until another wakes it.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{thread::futex, time::Timespec};

const EMPTY: u32 = 0;
const TOKEN: u32 = 1;
const PARKED: u32 = 2;

thread_local! {
    static SWITCHES: Cell<u32> = const { Cell::new(0) };
}

/// How often this thread has slept in a [`Parker`], or woken another that did.
pub(crate) fn switches() -> u32 {
    SWITCHES.get()
}

/// A one-token gate: [`Parker::unpark`] leaves the token, [`Parker::park`] takes it
/// and waits when there is none. A token left before the wait is not lost, and several
/// count as one. One thread at a time may park.
#[derive(Debug, Default)]
pub struct Parker {
    state: AtomicU32,
}

impl Parker {
    /// Without a token.
    pub const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY) }
    }

    /// Waits for the token and takes it. `deadline`: on the host's `CLOCK_MONOTONIC`
    /// ([`super::clock_monotonic_ns`]). False when the time ran out first.
    pub fn park(&self, deadline: Option<u64>) -> bool {
        // Acquire pairs with the Release in `unpark`: what the waker did before is seen.
        if self.state.compare_exchange(TOKEN, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
        if self.state.compare_exchange(EMPTY, PARKED, Ordering::Acquire, Ordering::Acquire).is_err()
        {
            self.state.swap(EMPTY, Ordering::Acquire);
            return true;
        }
        let deadline = deadline.map(|ns| Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as i64,
        });
        SWITCHES.set(SWITCHES.get().wrapping_add(1));
        loop {
            let waited = futex::wait_bitset(
                &self.state,
                futex::Flags::PRIVATE,
                PARKED,
                deadline.as_ref(),
                std::num::NonZeroU32::MAX,
            );
            if self.state.load(Ordering::Relaxed) == TOKEN {
                self.state.swap(EMPTY, Ordering::Acquire);
                return true;
            }
            if waited == Err(rustix::io::Errno::TIMEDOUT) {
                // The token may come at the very last moment.
                return self.state.swap(EMPTY, Ordering::Acquire) == TOKEN;
            }
        }
    }

    /// Leaves the token, and wakes the thread that waits for it.
    pub fn unpark(&self) {
        if self.state.swap(TOKEN, Ordering::Release) == PARKED {
            SWITCHES.set(SWITCHES.get().wrapping_add(1));
            let _ = futex::wake(&self.state, futex::Flags::PRIVATE, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;
    use crate::host::clock_monotonic_ns;

    #[test]
    fn a_token_left_before_is_taken_at_once() {
        let parker = Parker::new();
        parker.unpark();
        parker.unpark();
        assert!(parker.park(None));
        assert!(!parker.park(Some(clock_monotonic_ns() + 1_000_000)));
    }

    #[test]
    fn another_thread_wakes() {
        let parker = Arc::new(Parker::new());
        let other = Arc::clone(&parker);
        let waker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            other.unpark();
        });
        assert!(parker.park(None));
        waker.join().unwrap();
    }

    #[test]
    fn a_deadline_in_the_past_is_over_at_once() {
        assert!(!Parker::new().park(Some(0)));
    }
}
