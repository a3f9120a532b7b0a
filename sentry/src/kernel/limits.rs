//! Resource limits of a process (getrlimit(2)).

use std::sync::atomic::{AtomicU64, Ordering};

use linux_abi::process::Rlimit;

/// How many there are.
pub const COUNT: usize = 16;
/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// Read on hot paths, so each half is an atomic of its own: a reader may see the soft limit of before
/// with the hard limit of after, as in Linux.
#[derive(Debug)]
pub struct Limits {
    soft: [AtomicU64; COUNT],
    hard: [AtomicU64; COUNT],
}

impl Limits {
    pub fn new(values: [Rlimit; COUNT]) -> Self {
        Self {
            soft: values.map(|limit| limit.cur.into()),
            hard: values.map(|limit| limit.max.into()),
        }
    }

    /// What Linux gives its first process, with the usual limit on descriptors.
    pub fn defaults() -> [Rlimit; COUNT] {
        let mut limits = [Rlimit { cur: INFINITY, max: INFINITY }; COUNT];
        let mut set = |resource: u32, cur, max| {
            if let Some(limit) = limits.get_mut(resource as usize) {
                *limit = Rlimit { cur, max };
            }
        };
        set(libc::RLIMIT_STACK, 8 << 20, INFINITY);
        set(libc::RLIMIT_CORE, 0, INFINITY);
        set(libc::RLIMIT_NPROC, 30_000, 30_000);
        set(libc::RLIMIT_NOFILE, 1024, 1 << 20);
        set(libc::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(libc::RLIMIT_SIGPENDING, 30_000, 30_000);
        set(libc::RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(libc::RLIMIT_NICE, 0, 0);
        set(libc::RLIMIT_RTPRIO, 0, 0);
        limits
    }

    /// One limit; none at all for a number that is no resource.
    pub fn get(&self, resource: u32) -> Rlimit {
        let read = |side: &[AtomicU64; COUNT]| {
            side.get(resource as usize).map_or(INFINITY, |value| value.load(Ordering::Relaxed))
        };
        Rlimit { cur: read(&self.soft), max: read(&self.hard) }
    }

    pub fn soft(&self, resource: u32) -> u64 {
        self.get(resource).cur
    }

    pub fn set(&self, resource: u32, limit: Rlimit) {
        if let (Some(soft), Some(hard)) =
            (self.soft.get(resource as usize), self.hard.get(resource as usize))
        {
            soft.store(limit.cur, Ordering::Relaxed);
            hard.store(limit.max, Ordering::Relaxed);
        }
    }

    /// All of them, for fork(2) and /proc/PID/limits.
    pub fn all(&self) -> [Rlimit; COUNT] {
        std::array::from_fn(|resource| self.get(resource as u32))
    }
}
