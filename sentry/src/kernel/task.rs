//! A task (`struct task_struct`): what others may see and change of a guest thread.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use platform::{Kick, host::Parker};
use ranked_sync::Mutex;

use super::{Credentials, Kernel};
use crate::{
    lock_order,
    mm::MemoryManager,
    vfs::FdTable,
    wait::{EventMask, Notify},
};

/// A guest thread, as the rest of the kernel knows it.
pub struct Task {
    pub(super) kernel: Arc<Kernel>,
    pub(super) waker: Arc<TaskWaker>,
    pub(super) kick: Arc<dyn Kick>,
    pub(super) shared: Mutex<lock_order::Task, TaskShared>,
}

/// What of a task others may replace, under its lock.
pub(super) struct TaskShared {
    pub(super) cred: Arc<Credentials>,
    /// `None` once the task has exited.
    pub(super) mm: Option<Arc<MemoryManager>>,
    pub(super) fds: Option<Arc<FdTable>>,
}

impl Task {
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    pub fn cred(&self) -> Arc<Credentials> {
        self.shared.lock().cred.clone()
    }

    /// Makes it look at its signals and stop state soon, whether it runs guest code or sleeps.
    pub fn interrupt(&self) {
        self.waker.interrupt();
        self.kick.kick();
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

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

    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    pub(super) fn parker(&self) -> &Parker {
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
