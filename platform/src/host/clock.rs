//! The host's clocks (clock_gettime(2), through the vDSO).

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds.
pub fn clock_monotonic_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// CLOCK_REALTIME in nanoseconds since the epoch.
pub fn clock_realtime_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Realtime))
}

/// CLOCK_MONOTONIC_RAW in nanoseconds.
pub fn clock_monotonic_raw_ns() -> u64 {
    to_ns(clock_gettime(ClockId::MonotonicRaw))
}

/// Processor time of the calling thread in nanoseconds.
pub fn clock_thread_cpu_ns() -> u64 {
    to_ns(clock_gettime(ClockId::ThreadCPUTime))
}

/// How long the host was suspended since it started, in nanoseconds, as well as two clocks that are read one
/// after the other can tell.
pub(crate) fn slept_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Boottime)).saturating_sub(clock_monotonic_ns())
}

fn to_ns(time: rustix::time::Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
