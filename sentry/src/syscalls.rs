//! The system-call table and the handlers.
//!
//! A handler reads like its man page: typed arguments, checks, one call into the object that
//! does the work, copy out. [`table`] is the only place where a handler is registered; dispatch,
//! `--strace`, `lazaret syscalls` and the suite's coverage check all come from it.

mod args;
mod attr;
mod caps;
mod clone;
mod creds;
mod descriptors;
mod dir;
mod dispatch;
mod epoll;
mod eventfd;
mod exec;
mod exit;
mod file_range;
mod futex;
mod identity;
mod inotify;
mod install;
mod io_limits;
mod link;
mod madvise;
mod membarrier;
mod memfd;
mod mempolicy;
mod mmap;
mod mount;
mod mqueue;
mod msg;
mod namespace;
mod open;
mod path_args;
mod pidfd;
mod pipe;
mod poll;
mod prctl;
mod process_vm;
mod ptrace;
mod read_write;
mod record_lock;
mod rlimit;
mod rseq;
mod sched;
mod seccomp;
mod select;
mod sem;
mod shm;
mod signal;
mod signalfd;
mod socket;
mod socket_control;
mod socket_msg;
mod sockopt;
mod splice;
mod stat;
mod sysinfo;
pub mod table;
mod time;
mod timeout;
mod timer;
mod timerfd;
mod wait_mask;
mod xattr;

pub use args::{ArgKind, FromArg, Outcome};
pub use dispatch::{Entry, Handler, Support, SyscallFn};
