//! Signals: what is pending, what is to be done, who gets it (signal(7)).
//!
//! A signal is sent with [`Task::send_signal`](super::Task::send_signal) or
//! [`ThreadGroup::send_signal`](super::ThreadGroup::send_signal), from any thread. It is dequeued and
//! delivered by the receiving thread alone, between system calls (`task/signal_delivery.rs`).
//!
//! Each thread and each group keeps the set of its pending signals in an atomic word too, so that
//! a thread sees without a lock whether there is anything to deliver: the sender first
//! makes the signal pending, then looks at the masks; a thread that changes its mask first
//! stores it, then looks at what is pending.

mod group;
mod handlers;
mod permission;
mod queue;
mod send;

pub use group::Sent;
pub(in crate::kernel) use group::{Forking, Forks};
pub use handlers::{DefaultAction, SignalHandlers};
pub use permission::may_kill;
pub use queue::SignalQueue;
