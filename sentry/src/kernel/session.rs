//! Sessions and process groups (credentials(7), setsid(2)).

use std::{any::Any, collections::BTreeSet, fmt, sync::Arc};

use ranked_sync::Mutex;

use crate::lock_order;

/// A terminal in its role as the controlling one of a session.
pub trait ControllingTty: Send + Sync + fmt::Debug {
    /// The session's leader ended or gave the terminal up: the terminal has no session any more, and
    /// no foreground group. Returns the foreground group that was (0: none); the caller sends it
    /// SIGHUP and SIGCONT.
    fn leave_session(&self) -> i32;

    /// It is a session's from now on, with that foreground group.
    fn enter_session(&self, session: i32, foreground: i32);

    /// The foreground process group, 0 when there is none.
    fn foreground(&self) -> i32;

    /// Device number, for /proc/PID/stat.
    fn device(&self) -> u64;

    /// For the terminal's own code.
    fn as_any(&self) -> &dyn Any;
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub id: i32,
    tty: Mutex<lock_order::Leaf, Option<Arc<dyn ControllingTty>>>,
}

impl Session {
    pub(super) fn new(id: i32) -> Arc<Self> {
        Arc::new(Self { id, tty: Mutex::new(None) })
    }

    /// The controlling terminal.
    pub fn tty(&self) -> Option<Arc<dyn ControllingTty>> {
        self.tty.lock().clone()
    }

    /// TIOCSCTTY, TIOCNOTTY, hang-up. The terminal that was.
    pub fn set_tty(&self, tty: Option<Arc<dyn ControllingTty>>) -> Option<Arc<dyn ControllingTty>> {
        std::mem::replace(&mut *self.tty.lock(), tty)
    }
}

/// A process group: kept in the task set for as long as it has members.
#[derive(Debug, Default)]
pub(super) struct ProcessGroup {
    pub(super) session: i32,
    pub(super) members: BTreeSet<i32>,
}
