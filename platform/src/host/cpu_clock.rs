//! Processor time of any thread of this process.

#![allow(unsafe_code, reason = "clock_gettime with a clock id made from a thread id")]

/// The host's id of the calling thread.
pub fn host_tid() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Processor time of a thread of this process (by [`host_tid`]) in nanoseconds; `None` when it
/// has ended. clock_getcpuclockid(3) says how the clock id is made, for a process; the thread's
/// differs by one bit (`CPUCLOCK_PERTHREAD`).
pub fn thread_cpu_ns(tid: i32) -> Option<u64> {
    const PERTHREAD_SCHED: i32 = 4 | 2;
    let clock = (!tid << 3) | PERTHREAD_SCHED;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec which the call fills; any clock id may be asked for.
    let done = unsafe { libc::clock_gettime(clock, &mut time) };
    (done == 0)
        .then(|| (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64))
}
