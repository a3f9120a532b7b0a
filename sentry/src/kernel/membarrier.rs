//! Making all running threads of a process pass a memory barrier.

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use super::{CurrentTask, Task, ThreadGroup};

impl ThreadGroup {
    /// REGISTER_ commands done (membarrier(2)).
    pub(crate) fn membarrier_registrations(&self) -> i32 {
        self.membarrier.load(Ordering::Relaxed) as i32
    }

    pub(crate) fn register_membarrier(&self, command: i32) {
        self.membarrier.fetch_or(command as u32, Ordering::Relaxed);
    }

    /// Every thread that is in guest code leaves it once; entering and leaving are full barriers. Waits until they have.
    pub(crate) fn barrier(&self, caller: &CurrentTask) {
        fence(Ordering::SeqCst);
        let inside: Vec<(Arc<Task>, u64)> = self
            .threads()
            .into_iter()
            .filter(|thread| !Arc::ptr_eq(thread, caller.task()))
            .filter_map(|thread| thread.guest_entry().map(|entered| (thread, entered)))
            .collect();
        for (thread, _) in &inside {
            thread.interrupt();
        }
        for (thread, entered) in &inside {
            // It is on its way out: this takes microseconds.
            while thread.guest_entry() == Some(*entered)
                && !thread.is_exited()
                && !caller.must_die()
            {
                std::thread::yield_now();
            }
        }
    }
}

impl CurrentTask {
    /// As [`ThreadGroup::barrier`], for one's own process.
    pub(crate) fn barrier_in_group(&self) {
        self.thread_group().barrier(self);
    }
}
