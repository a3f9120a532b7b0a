//! Which task the calling host thread serves: Linux's `current`.
//!
//! Most code gets its [`CurrentTask`](super::CurrentTask) as an argument. A few file operations mean something
//! else for each caller though they are not handed one (`/proc/self`, `/dev/tty`, job control
//! of a terminal, signalfd); those ask here. What is kept is only the identity of the host
//! thread, set once when it starts to serve a task; the state is the task's.

use std::{cell::RefCell, sync::Arc};

use super::Task;

thread_local! {
    static SERVED: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
}

/// Says which task this host thread serves from now on; `None` when the task has ended.
pub fn set_served(task: Option<Arc<Task>>) {
    let before = SERVED.with(|served| served.replace(task));
    drop(before);
}

/// The task this host thread serves; `None` on threads of the sentry's own.
pub fn served() -> Option<Arc<Task>> {
    SERVED.with(|served| served.borrow().clone())
}
