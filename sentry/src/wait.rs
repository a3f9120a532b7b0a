//! The one way to block.
//!
//! An object on which tasks can wait has a [`WaitQueue`]. A task that must wait registers
//! its waker there, checks again, and parks (`CurrentTask::block_until`, `block_on_file`);
//! whoever changes the object calls [`WaitQueue::wake`]. `epoll` registers a waker of its own.

mod queue;

pub use queue::{EventMask, Notify, PollTable, Registration, WaitQueue};
