//! The one place clocks are read.

mod timer_queue;

use crate::vfs::TimeSpec;

pub use timer_queue::{TimerHandle, TimerQueue};

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// So much later, or as late as can be said.
    pub fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds until `later`; 0 when it is past.
    pub fn until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// The sandbox's clocks, as the guest sees them: the host's, for now with no offset.
#[derive(Debug)]
pub struct Clocks {}

impl Clocks {
    pub fn new() -> Self {
        Self {}
    }

    /// CLOCK_MONOTONIC.
    pub fn monotonic(&self) -> Monotonic {
        Monotonic(platform::host::clock_monotonic_ns())
    }

    /// CLOCK_REALTIME, nanoseconds since the epoch.
    pub fn realtime_ns(&self) -> u64 {
        platform::host::clock_realtime_ns()
    }

    /// When CLOCK_REALTIME will say `ns`, if no one sets the clock.
    pub fn realtime_to_monotonic(&self, ns: u64) -> Monotonic {
        let (real, mono) = (self.realtime_ns(), self.monotonic().0);
        Monotonic(if ns >= real {
            mono.saturating_add(ns - real)
        } else {
            mono.saturating_sub(real - ns)
        })
    }

    /// CLOCK_REALTIME for time stamps of files.
    pub fn now(&self) -> TimeSpec {
        TimeSpec::from_ns(self.realtime_ns())
    }

    /// From the start of the sandbox to `at`.
    pub fn since_boot_ns(&self, at: Monotonic) -> u64 {
        at.0
    }

    /// Since the machine started, as CLOCK_BOOTTIME and start times of processes count it.
    pub fn uptime_ns(&self) -> u64 {
        self.monotonic().0
    }
}

impl Default for Clocks {
    fn default() -> Self {
        Self::new()
    }
}

impl TimeSpec {
    /// From nanoseconds since the epoch.
    pub fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
    }

    /// Now, for file systems which have no clock at hand.
    pub fn now() -> Self {
        Self::from_ns(platform::host::clock_realtime_ns())
    }
}
