//! How a process hears that an empty message queue is empty no longer (mq_notify(3)).

use std::sync::{Arc, Weak};

use linux_abi::{SigInfo, Signal, signal::si_code};

use crate::{
    kernel::ThreadGroup,
    socket::{SocketOps, message::current_ids, netlink},
};

/// What SIGEV_THREAD sends through the C library's netlink socket (`NOTIFY_COOKIE_LEN`); the last byte
/// says what happened.
type Cookie = [u8; 32];
const WOKEN_UP: u8 = 1;
const REMOVED: u8 = 2;

/// Who wants to be told, and how.
pub struct Notification {
    group: Weak<ThreadGroup>,
    pid: i32,
    by: NotifyBy,
}

/// See `sigev_notify`.
pub enum NotifyBy {
    /// SIGEV_NONE.
    Nothing,
    /// SIGEV_SIGNAL, with `sigev_value`.
    Signal(Signal, u64),
    /// SIGEV_THREAD.
    Thread(Arc<dyn SocketOps>, Cookie),
}

impl Notification {
    pub fn new(group: &Arc<ThreadGroup>, by: NotifyBy) -> Self {
        Self { group: Arc::downgrade(group), pid: group.pid(), by }
    }

    pub(super) fn owner(&self) -> i32 {
        self.pid
    }

    /// Tells the owner of a message of the calling task's.
    pub(super) fn fire(self) {
        match self.by {
            NotifyBy::Nothing => {}
            NotifyBy::Signal(signal, value) => {
                let sender = current_ids();
                let mut info = SigInfo::from_user(signal, si_code::MESGQ, sender.pid, sender.uid);
                info.set_value(value);
                if let Some(group) = self.group.upgrade() {
                    // A full queue of signals loses it, as in Linux.
                    let _ = group.send_signal(info);
                }
            }
            NotifyBy::Thread(socket, cookie) => tell(&*socket, cookie, WOKEN_UP),
        }
    }

    /// Ends without a message.
    pub(super) fn withdraw(self) {
        if let NotifyBy::Thread(socket, cookie) = self.by {
            tell(&*socket, cookie, REMOVED);
        }
    }

    /// `sigev_notify`, signal and process, as a queue's file shows them.
    pub(super) fn describe(&self) -> (i32, i32, i32) {
        match &self.by {
            NotifyBy::Signal(signal, _) => (0, signal.number(), self.pid),
            NotifyBy::Nothing => (1, 0, self.pid),
            NotifyBy::Thread(..) => (2, 0, self.pid),
        }
    }
}

fn tell(socket: &dyn SocketOps, mut cookie: Cookie, what: u8) {
    if let Some(last) = cookie.last_mut() {
        *last = what;
    }
    // A socket that is full, because nobody reads it, misses it.
    let _ = netlink::deliver(socket, &cookie);
}
