//! How much processor time a task has used.
//!
//! System time is what the host thread that serves the task has used. User time is the time
//! spent in guest code, by the wall clock: the guest's own instructions run in another host thread
//! whose clock cannot be read from here. Divergence: time in which the host had no processor for the guest
//! counts as user time.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use super::Task;

/// Processor time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub user_ns: u64,
    pub system_ns: u64,
}

impl CpuTimes {
    pub fn total_ns(self) -> u64 {
        self.user_ns.saturating_add(self.system_ns)
    }

    pub fn add(&mut self, other: Self) {
        self.user_ns = self.user_ns.saturating_add(other.user_ns);
        self.system_ns = self.system_ns.saturating_add(other.system_ns);
    }
}

/// The counters; written by the task's own thread, read by all.
#[derive(Debug, Default)]
pub(in crate::kernel) struct TaskClock {
    user_ns: AtomicU64,
    /// When it entered guest code; 0 while it is out.
    entered: AtomicU64,
    /// The host thread, 0 before and after.
    host_tid: AtomicI32,
    /// What the host thread had used before, for other tasks.
    before_ns: AtomicU64,
    /// System time of a task that has ended.
    final_system_ns: AtomicU64,
}

impl Task {
    pub(in crate::kernel) fn clock_start(&self) {
        self.clock.before_ns.store(platform::host::clock_thread_cpu_ns(), Ordering::Relaxed);
        self.clock.host_tid.store(platform::host::host_tid(), Ordering::Release);
    }

    pub(in crate::kernel) fn clock_end(&self) {
        let used = platform::host::clock_thread_cpu_ns()
            .saturating_sub(self.clock.before_ns.load(Ordering::Relaxed));
        self.clock.final_system_ns.store(used, Ordering::Relaxed);
        self.clock.host_tid.store(0, Ordering::Release);
        let user_ns = self.clock.user_ns.load(Ordering::Relaxed);
        self.kernel().note_cpu_time(user_ns.saturating_add(used));
    }

    /// As [`Self::cpu_times`], until [`Self::clock_end`].
    pub(in crate::kernel) fn running_cpu_times(&self) -> Option<CpuTimes> {
        let runs = self.clock.host_tid.load(Ordering::Acquire) != 0;
        runs.then(|| self.cpu_times())
    }

    #[inline]
    pub(in crate::kernel) fn clock_enter_guest(&self) {
        self.clock.entered.store(platform::host::clock_monotonic_ns(), Ordering::Relaxed);
    }

    #[inline]
    pub(in crate::kernel) fn clock_leave_guest(&self) {
        let spent = platform::host::clock_monotonic_ns()
            .saturating_sub(self.clock.entered.load(Ordering::Relaxed));
        self.clock.entered.store(0, Ordering::Relaxed);
        let before = self.clock.user_ns.load(Ordering::Relaxed);
        self.clock.user_ns.store(before.wrapping_add(spent), Ordering::Relaxed);
    }

    /// In guest code now?
    pub fn is_in_guest(&self) -> bool {
        self.clock.entered.load(Ordering::Relaxed) != 0
    }

    /// When it entered guest code, if it is there.
    pub(in crate::kernel) fn guest_entry(&self) -> Option<u64> {
        Some(self.clock.entered.load(Ordering::SeqCst)).filter(|&entered| entered != 0)
    }

    /// Used so far.
    pub fn cpu_times(&self) -> CpuTimes {
        let mut user_ns = self.clock.user_ns.load(Ordering::Relaxed);
        let entered = self.clock.entered.load(Ordering::Relaxed);
        if entered != 0 {
            user_ns = user_ns
                .saturating_add(platform::host::clock_monotonic_ns().saturating_sub(entered));
        }
        let system_ns = match self.clock.host_tid.load(Ordering::Acquire) {
            0 => None,
            tid => platform::host::thread_cpu_ns(tid)
                .map(|ns| ns.saturating_sub(self.clock.before_ns.load(Ordering::Relaxed))),
        };
        let system_ns =
            system_ns.unwrap_or_else(|| self.clock.final_system_ns.load(Ordering::Relaxed));
        CpuTimes { user_ns, system_ns }
    }
}
