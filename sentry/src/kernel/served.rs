//! Which task the calling host thread serves: Linux's `current`.
//!
//! Most code gets its [`CurrentTask`](super::CurrentTask) as an argument. A few file operations mean something
//! else for each caller though they are not handed one (`/proc/self`, `/dev/tty`, job control
//! of a terminal, signalfd); those ask here. What is kept is only the identity of the host
//! thread, set once when it starts to serve a task; the state is the task's.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use super::Task;

thread_local! {
    static SERVED: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
    static LAST_CALL: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Says which task this host thread serves from now on; `None` when the task has ended.
pub fn set_served(task: Option<Arc<Task>>) {
    LAST_CALL.set(None);
    let before = SERVED.with(|served| served.replace(task));
    drop(before);
}

/// The task this host thread serves; `None` on threads of the sentry's own.
pub fn served() -> Option<Arc<Task>> {
    SERVED.with(|served| served.borrow().clone())
}

/// A system call of the task begins.
#[inline]
pub(super) fn note_call(number: u64) {
    LAST_CALL.set(Some(number));
}

/// What this host thread is at, for the report of an error of our own. Takes no lock, and can be asked
/// anywhere.
pub fn at_work() -> AtWork {
    let ids = SERVED.try_with(|served| {
        served.try_borrow().ok().and_then(|task| task.as_ref().map(|task| (task.pid(), task.tid())))
    });
    AtWork { task: ids.ok().flatten(), last_call: LAST_CALL.try_with(Cell::get).ok().flatten() }
}

/// See [`at_work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtWork {
    /// Process and thread number inside; `None` on threads of the sentry's own.
    pub task: Option<(i32, i32)>,
    /// Number of the system call that the task made last.
    pub last_call: Option<u64>,
}
