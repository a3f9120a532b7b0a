//! What a sandbox as a whole may have, besides memory: held without the host's help, and true inside.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Kernel, MAX_TASKS};

/// Between two looks at the time used, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// `None`: no more than what Lazaret itself has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    /// Processes and threads; then clone(2) fails with `EAGAIN`.
    pub pids: Option<u32>,
    /// Open file descriptions; then whatever makes one fails with `ENFILE`.
    pub files: Option<u64>,
    /// Bytes of files in the overlay and in tmpfs; then writes fail with `ENOSPC`.
    pub disk: Option<u64>,
    /// Processor time of all processes together; then all are killed.
    pub cpu_time: Option<Duration>,
}

impl SandboxLimits {
    pub(super) fn max_tasks(&self) -> usize {
        self.pids.map_or(MAX_TASKS, |pids| MAX_TASKS.min(pids as usize))
    }

    /// `fs.file-max`.
    pub fn max_files(&self) -> u64 {
        self.files.unwrap_or(i64::MAX as u64)
    }
}

/// Starts the watch over processor time, where there is a limit on it.
pub(super) fn watch_cpu_time(kernel: &Arc<Kernel>) -> std::io::Result<()> {
    let Some(limit) = kernel.limits.cpu_time else { return Ok(()) };
    let kernel = Arc::downgrade(kernel);
    let work = move || {
        while let Some(pause) = look(&kernel, limit) {
            std::thread::sleep(pause);
        }
    };
    let thread = std::thread::Builder::new().name("cpu time".into()).stack_size(128 << 10);
    thread.spawn(work).map(drop)
}

/// One look; how long until the next. `None` when there is nothing more to watch.
fn look(kernel: &Weak<Kernel>, limit: Duration) -> Option<Duration> {
    let kernel = kernel.upgrade()?;
    let used = kernel.cpu_time();
    let Some(left) = limit.checked_sub(used).filter(|left| !left.is_zero()) else {
        tracing::error!(
            "out of processor time ({} s): killed all processes (see --cpu-time)",
            limit.as_secs_f64()
        );
        kernel.kill_all();
        return None;
    };
    // All processors together cannot use it up sooner.
    let soonest = left / u32::try_from(platform::host::cpu_count()).unwrap_or(1);
    Some(soonest.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

impl Kernel {
    /// What the sandbox may have.
    pub fn limits(&self) -> &SandboxLimits {
        &self.limits
    }

    /// Processor time of all tasks, ended ones included.
    pub fn cpu_time(&self) -> Duration {
        let ended = self.ended_cpu_ns.load(Ordering::Relaxed);
        Duration::from_nanos(ended.saturating_add(self.tasks.cpu_ns()))
    }
}
