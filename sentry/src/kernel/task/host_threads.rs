//! The host threads that serve tasks. One whose task has ended waits a while for the next task: making
//! a thread and taking it down costs the host several times what it costs to wake one.

use std::{sync::Arc, time::Duration};

use platform::{
    host::{Parker, clock_monotonic_ns},
    memory::MemoryFile,
};
use ranked_sync::Mutex;

use super::run::{Start, serve};
use crate::{Errno, lock_order};

/// Host stack of a task's thread: handlers are shallow, and there may be thousands.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 2 << 20 } else { 256 << 10 };
/// So many wait at most; each keeps its stack.
const IDLE_MAX: usize = 16;
/// So long a thread waits, and then ends.
const IDLE_TIME: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(in crate::kernel) struct HostThreads {
    /// The one that came last is the first to go: its caches are warm.
    idle: Mutex<lock_order::Leaf, Vec<Arc<Seat>>>,
}

/// A waiting thread.
#[derive(Default)]
struct Seat {
    parker: Parker,
    next: Mutex<lock_order::Leaf, Option<Start>>,
}

impl HostThreads {
    /// Has a host thread serve the task. `EAGAIN` when the host has no thread for it.
    pub(in crate::kernel) fn serve(&self, start: Start) -> Result<(), Errno> {
        let idle = self.idle.lock().pop();
        if let Some(seat) = idle {
            *seat.next.lock() = Some(start);
            seat.parker.unpark();
            return Ok(());
        }
        let kernel = start.task.kernel().clone();
        let work = move || {
            serve(start);
            let seat = Arc::default();
            while let Some(start) = kernel.host_threads.wait(&seat, kernel.memory()) {
                serve(start);
            }
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
        thread.map(drop).map_err(|_| Errno::EAGAIN)
    }

    /// Waits for another task to serve; `None` when it is time to end.
    fn wait(&self, seat: &Arc<Seat>, memory: &MemoryFile) -> Option<Start> {
        {
            let mut idle = self.idle.lock();
            if idle.len() >= IDLE_MAX {
                return None;
            }
            idle.push(seat.clone());
        }
        let deadline = clock_monotonic_ns().saturating_add(IDLE_TIME.as_nanos() as u64);
        if !seat.parker.park(Some(deadline)) {
            let mut idle = self.idle.lock();
            if let Some(at) = idle.iter().position(|waiting| Arc::ptr_eq(waiting, seat)) {
                idle.remove(at);
                drop(idle);
                // Tasks have become fewer, and so have those who need pages.
                memory.cool_down();
                return None;
            }
            drop(idle);
            // Chosen at the last moment: the task is on its way.
            seat.parker.park(None);
        }
        seat.next.lock().take()
    }
}

impl std::fmt::Debug for HostThreads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostThreads({} idle)", self.idle.lock().len())
    }
}
