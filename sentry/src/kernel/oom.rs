//! Holds the sandbox to its limit on memory (`mm/oom_kill.c`).
//!
//! Allocations over the limit are refused (`MemoryFile::allocate`). But memory is only counted once it is touched, as
//! on Linux, and a first touch is a page fault that the host serves without asking anybody. So a thread looks how much
//! is in use, the more often the less there is left, and over the limit it kills the process that has most.
//!
//! What the sentry itself holds counts too: pipes and sockets full of bytes, and all else that guests make it remember. It
//! counts for a process by the descriptors it has open, as nearly all of it hangs on some. Until there is room again, buffers of pipes and
//! sockets are refused (`host::heap_is_full`), so that others do not fill what a killed process gives back.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use platform::host;

use super::{Kernel, ThreadGroup};

/// How fast one processor may touch new memory, bytes per second; hosts are slower.
const TOUCH_RATE: u64 = 4 << 30;
/// Between two looks while memory grows, at least.
const SHORTEST: Duration = Duration::from_millis(5);
/// Between two looks while it does not, near the limit.
const LAZY: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
/// How long a killed process may take to give its memory back, before the next one has to go.
const PATIENCE: Duration = Duration::from_secs(2);
/// The sentry's own needs, whatever its guests do.
const OWN_NEEDS: u64 = 64 << 20;
/// `OOM_SCORE_ADJ_MIN`: a process that is not to be killed.
const EXEMPT: i32 = -1000;

/// Starts the watch, where there is a limit.
pub(super) fn watch(kernel: &Arc<Kernel>) -> std::io::Result<()> {
    let Some(limit) = kernel.memory().limit() else { return Ok(()) };
    let kernel = Arc::downgrade(kernel);
    let work = move || {
        let mut watch = Watch { limit, last_used: 0, pause: SHORTEST };
        while let Some(pause) = watch.look(&kernel) {
            std::thread::sleep(pause);
        }
    };
    let thread = std::thread::Builder::new().name("oom".into()).stack_size(128 << 10);
    thread.spawn(work).map(drop)
}

struct Watch {
    limit: u64,
    last_used: u64,
    pause: Duration,
}

impl Watch {
    /// One look; how long until the next. `None` when the kernel is gone.
    fn look(&mut self, kernel: &Weak<Kernel>) -> Option<Duration> {
        let kernel = kernel.upgrade()?;
        let used = used(&kernel);
        let Some(left) = self.limit.checked_sub(used).filter(|left| *left > 0) else {
            // What was freed already is no reason.
            host::trim_heap();
            if self::used(&kernel) >= self.limit {
                make_room(&kernel, self.limit);
            }
            return Some(SHORTEST);
        };
        // So soon that not all of it can be gone by then.
        let rate = TOUCH_RATE.saturating_mul(host::cpu_count() as u64);
        let safe = Duration::from_secs_f64(left as f64 / rate as f64);
        self.pause = if used > self.last_used { SHORTEST } else { (self.pause * 2).min(LAZY) };
        self.last_used = used;
        Some(self.pause.max(safe).min(LONGEST))
    }
}

/// What guests have, here and in the sentry.
fn used(kernel: &Kernel) -> u64 {
    let memory = kernel.memory();
    memory.charge(host::own_memory().saturating_sub(OWN_NEEDS));
    let used = memory.used();
    host::set_heap_full(memory.limit().is_some_and(|limit| used >= limit));
    used
}

/// Kills the process with most memory, and waits until that is free.
fn make_room(kernel: &Arc<Kernel>, limit: u64) {
    let Some((victim, resident)) = choose(kernel, limit) else {
        tracing::error!("out of memory ({limit} bytes), and no process may be killed for it");
        return kernel.kill_all();
    };
    let name = victim.leader().map(|leader| String::from_utf8_lossy(&leader.comm()).into_owned());
    let (pid, name) = (victim.pid(), name.unwrap_or_default());
    let (limit_mib, resident_mib) = (limit >> 20, resident >> 20);
    tracing::error!(
        "out of memory: killed process {pid} ({name}), which had {resident_mib} MiB of {limit_mib} (see --memory)"
    );
    victim.kill();
    let deadline = Instant::now() + PATIENCE;
    let is_there = || kernel.tasks.process(pid).is_some_and(|now| Arc::ptr_eq(&now, &victim));
    while is_there() && used(kernel) >= limit && Instant::now() < deadline {
        std::thread::sleep(SHORTEST);
    }
    host::trim_heap();
}

/// Who has most, with `oom_score_adj` in thousandths of all memory added (`oom_badness`); and how much.
fn choose(kernel: &Arc<Kernel>, limit: u64) -> Option<(Arc<ThreadGroup>, u64)> {
    let processes = kernel.tasks.processes();
    let open = |process: &ThreadGroup| {
        let leader = process.leader();
        leader.and_then(|leader| leader.fd_table()).map_or(0, |fds| fds.list().len() as u64)
    };
    let in_all: u64 = processes.iter().map(|process| open(process)).sum();
    let charged = kernel.memory().charged();
    let score = |process: Arc<ThreadGroup>| {
        let adjust = process.oom_score_adj().load(Ordering::Relaxed);
        if adjust == EXEMPT || process.is_exiting() {
            return None;
        }
        let resident = process.leader()?.memory()?.usage().resident;
        let share = u128::from(charged) * u128::from(open(&process)) / u128::from(in_all.max(1));
        let has = resident.saturating_add(u64::try_from(share).unwrap_or(u64::MAX));
        let points = i128::from(has).saturating_add(i128::from(limit) / 1000 * i128::from(adjust));
        Some((points, process, has))
    };
    let best = processes.into_iter().filter_map(score).max_by_key(|score| score.0)?;
    Some((best.1, best.2))
}
