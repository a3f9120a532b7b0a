//! The system-call table and the handlers.
//!
//! A handler reads like its man page: typed arguments, checks, one call into the object that
//! does the work, copy out. [`table`] is the only place where a handler is registered; dispatch,
//! `--strace`, `lazaret syscalls` and the suite's coverage check all come from it.

mod args;
mod clone;
mod dispatch;
mod epoll;
mod eventfd;
mod exec;
mod exit;
mod futex;
mod identity;
mod install;
mod madvise;
mod mempolicy;
mod mmap;
mod pipe;
mod poll;
mod process_vm;
mod select;
mod signal;
pub mod table;
mod time;
mod timeout;
mod wait_mask;

pub use args::{ArgKind, FromArg, Outcome};
pub use dispatch::{Entry, Handler, Support, SyscallFn};
