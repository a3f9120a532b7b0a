//! The sockets that are not in use, and making more of them when all are.

use linux_abi::Errno;
use ranked_sync::{Condvar, Mutex};

use super::{Channel, Failure, exchange, take_descriptor};
use crate::request::Request;

mod rank {
    // A leaf: after all ranks of the sentry.
    ranked_sync::lock_order! { base 60000;
        /// The free sockets of a [`super::Pool`].
        GoferPool
    }
}

/// More would not be faster, and the server has a thread for each.
const MAX_CHANNELS: u32 = 16;

/// Sockets to one gofer.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<rank::GoferPool, State>,
    /// Notified when a socket becomes free, or none ever will.
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    free: Vec<Channel>,
    /// The first socket: only for asking for others. Away while someone asks.
    control: Option<Channel>,
    /// Sockets that there are, beside the first.
    open: u32,
    /// Never more than these.
    limit: u32,
    closed: bool,
}

impl Pool {
    pub(super) fn new(control: Channel, limit: u32) -> Self {
        let limit = limit.clamp(1, MAX_CHANNELS);
        let state =
            State { free: Vec::new(), control: Some(control), open: 0, limit, closed: false };
        Self { state: Mutex::new(state), freed: Condvar::new() }
    }

    /// A socket for one call, if possible one whose thread is on this processor; waits for one when
    /// there are as many as may be.
    pub(super) fn acquire(&self) -> Result<Channel, Failure> {
        let processor = u32::try_from(rustix::thread::sched_getcpu()).ok();
        let mut state = self.state.lock();
        let control = loop {
            if state.closed {
                return Err(Failure::Errno(Errno::EIO));
            }
            if let Some(at) = state.free.iter().rposition(|free| free.processor == processor) {
                return Ok(state.free.swap_remove(at));
            }
            if state.open < state.limit
                && let Some(control) = state.control.take()
            {
                break control;
            }
            if let Some(channel) = state.free.pop() {
                return Ok(channel);
            }
            self.freed.wait(&mut state);
        };
        drop(state);
        self.grow(control, processor)
    }

    /// Gives back a socket after a call that ended well.
    pub(super) fn release(&self, channel: Channel) {
        let mut state = self.state.lock();
        if !state.closed {
            state.free.push(channel);
        }
        drop(state);
        self.freed.notify_one();
    }

    /// No more calls: waiters get `EIO`.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let free = std::mem::take(&mut state.free);
        let control = state.control.take();
        drop(state);
        drop((free, control));
        self.freed.notify_all();
    }

    /// Asks for another socket, on the first one.
    fn grow(&self, mut control: Channel, processor: Option<u32>) -> Result<Channel, Failure> {
        let made = exchange(&mut control, &Request::OpenChannel { processor }, |_, file| {
            take_descriptor(file, "no channel came along")
        });
        let mut state = self.state.lock();
        let result = match made {
            Ok(socket) => {
                state.open = state.open.saturating_add(1);
                Ok(Channel { processor, ..Channel::new(socket) })
            }
            // The server has no more descriptors or threads to give: do with what there is.
            Err(Failure::Errno(_)) if state.open > 0 => {
                state.limit = state.open;
                Err(None)
            }
            Err(failure) => Err(Some(failure)),
        };
        if !state.closed {
            state.control = Some(control);
        }
        drop(state);
        self.freed.notify_all();
        match result {
            Ok(channel) => Ok(channel),
            Err(Some(failure)) => Err(failure),
            Err(None) => self.acquire(),
        }
    }
}
