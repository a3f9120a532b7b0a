//! Which seccomp listener belongs to whom.
//!
//! A guest thread says in its slot which descriptor its listener got, and its siblings
//! can write there too. So a claim is checked: the descriptor is a listener, no one
//! has it yet, and the first call that comes from it was made by a thread of the right
//! process. A call that was taken from somebody else's listener on the way is kept for
//! the rightful owner.

#![allow(unsafe_code, reason = "takes ownership of descriptors made by stub processes")]

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::Arc,
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::sys::{self, Notification};
use crate::lock_order::PendingListeners;

/// See the module. One per sandbox.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<PendingListeners, State>,
}

#[derive(Debug, Default)]
struct State {
    claimed: BTreeSet<i32>,
    /// First calls that were received when somebody else claimed the listener.
    strays: BTreeMap<i32, Notification>,
}

/// A claimed listener; closed when dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: Option<OwnedFd>,
    raw: i32,
    registry: Arc<Registry>,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            // SAFETY: only drop() takes the descriptor out, so this is never reached; a
            // number that is not open fails every call.
            None => unsafe { BorrowedFd::borrow_raw(i32::MAX) },
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Closed under the lock: nobody may claim the number in between.
        let mut state = self.registry.state.lock();
        state.claimed.remove(&self.raw);
        self.fd = None;
    }
}

impl Registry {
    /// Claims a listener for a thread of `process`, and waits for its first call.
    ///
    /// # Errors
    /// EBADF when the descriptor is not what it should be; ESRCH when its thread is gone.
    pub(crate) fn claim(
        self: &Arc<Self>,
        fd: i32,
        process: i32,
    ) -> Result<(Listener, Notification), Errno> {
        let mut state = self.state.lock();
        if fd < 0 || state.claimed.contains(&fd) || !sys::is_listener(fd) {
            return Err(Errno::EBADF);
        }
        // SAFETY: open now, and closed by no one: unclaimed listeners are not touched
        // but here, under the lock.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let first = match state.strays.remove(&fd) {
            Some(notification) => notification,
            None => Self::first_call(borrowed)?,
        };
        if sys::tgkill(process, first.pid as i32, 0).is_err() {
            state.strays.insert(fd, first);
            return Err(Errno::EBADF);
        }
        state.claimed.insert(fd);
        // SAFETY: from here on the Listener is the descriptor's only owner.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        let listener = Listener { raw: owned.as_raw_fd(), fd: Some(owned), registry: self.clone() };
        sys::notification_sync_wake_up(listener.as_fd(), true);
        Ok((listener, first))
    }

    fn first_call(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
        for _ in 0..100 {
            if sys::poll(listener, 20) & libc::POLLIN != 0 {
                match sys::notification_receive(listener) {
                    Err(Errno::EINTR | Errno::ENOENT) => {}
                    other => return other,
                }
            }
            if sys::is_hung_up(listener) {
                return Err(Errno::ESRCH);
            }
        }
        Err(Errno::ESRCH)
    }
}
