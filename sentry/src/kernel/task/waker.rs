//! What ends a task's sleep.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use platform::host::Parker;

use crate::wait::{EventMask, Notify};

/// Ends a task's sleep. The target of its wait-queue registrations.
#[derive(Debug, Default)]
pub struct TaskWaker {
    parker: Parker,
    woken: AtomicBool,
    interrupted: AtomicBool,
}

impl TaskWaker {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From here on a notification ends the next sleep at once. To be called before the
    /// condition is checked.
    pub fn prepare(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }

    /// The task has signals or a stop to look at; ends interruptible sleeps until `clear_interrupt`.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        self.parker.unpark();
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// To be called before the task looks at its signals.
    pub fn clear_interrupt(&self) {
        self.interrupted.store(false, Ordering::SeqCst);
    }

    pub(in crate::kernel) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    pub(in crate::kernel) fn parker(&self) -> &Parker {
        &self.parker
    }

    /// Ends the sleep.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.parker.unpark();
        }
    }
}

impl Notify for TaskWaker {
    fn notify(&self, _events: EventMask) {
        self.wake();
    }
}
