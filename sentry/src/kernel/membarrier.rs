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
            thread.wait_for_exit_since(*entered, caller);
        }
    }

    /// Critical sections (rseq(2)) that other threads are in start anew; when this returns, none of them goes on.
    pub(crate) fn restart_critical_sections(&self, caller: &CurrentTask) {
        let mut others = self.threads();
        others.retain(|thread| !Arc::ptr_eq(thread, caller.task()));
        others.iter().for_each(|thread| thread.make_rseq_due());
        others.iter().for_each(|thread| thread.wait_for_exit_from_guest(caller));
    }
}

impl Task {
    /// Waits until a thread that was kicked is out of guest code, if it is there.
    pub(crate) fn wait_for_exit_from_guest(&self, caller: &CurrentTask) {
        if let Some(entered) = self.guest_entry() {
            self.wait_for_exit_since(entered, caller);
        }
    }

    /// It is on its way out: this takes microseconds.
    fn wait_for_exit_since(&self, entered: u64, caller: &CurrentTask) {
        while self.guest_entry() == Some(entered) && !self.is_exited() && !caller.must_die() {
            std::thread::yield_now();
        }
    }
}

impl CurrentTask {
    /// As [`ThreadGroup::barrier`], for one's own process.
    pub(crate) fn barrier_in_group(&self) {
        self.thread_group().barrier(self);
    }
}
