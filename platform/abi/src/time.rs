//! Times (time(7), `include/uapi/linux/time.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;

/// `struct timespec`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, nsec: (ns % NSEC_PER_SEC) as i64 }
    }

    /// As a point or span of time; `None` when negative or not normal (`EINVAL` everywhere).
    /// Times too large to count are as late as can be said.
    pub const fn to_ns(self) -> Option<u64> {
        if self.sec < 0 || self.nsec < 0 || self.nsec >= NSEC_PER_SEC as i64 {
            return None;
        }
        Some((self.sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

impl Timeval {
    pub const fn from_ns(ns: u64) -> Self {
        Self { sec: (ns / NSEC_PER_SEC) as i64, usec: (ns % NSEC_PER_SEC / 1000) as i64 }
    }

    /// As [`Timespec::to_ns`].
    pub const fn to_ns(self) -> Option<u64> {
        if self.sec < 0 || self.usec < 0 || self.usec >= 1_000_000 {
            return None;
        }
        Some((self.sec as u64).saturating_mul(NSEC_PER_SEC).saturating_add(self.usec as u64 * 1000))
    }
}

/// `struct itimerspec`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerspec {
    pub interval: Timespec,
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Itimerval {
    pub interval: Timeval,
    pub value: Timeval,
}

/// `struct timezone`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timezone {
    pub minuteswest: i32,
    pub dsttime: i32,
}
