//! Futexes (futex(2), futex(7)).
//!
//! Waiters hang in hashed buckets, each with a lock under which a waiter compares the word and queues itself,
//! and a waker takes waiters out: no wake-up is lost. A bucket without waiters costs a waker one load.

mod ops;
mod pi;
mod robust;
mod table;
mod wait;

pub(crate) use table::FutexTable;
pub(in crate::kernel) use table::Waiter;
pub(crate) use wait::WaitOn;
