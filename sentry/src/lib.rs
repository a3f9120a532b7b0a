//! The application kernel: Linux, implemented in a process.
//!
//! * [`kernel`]: tasks, thread groups, signals, credentials, futexes: who runs.
//! * [`mm`]: VMAs and user memory; [`loader`]: from an ELF file to a new image.
//! * [`vfs`]: dentries, mounts, path walk, file descriptions; [`fs`]: the file systems.
//! * [`socket`]: AF_UNIX and loopback TCP/UDP.
//! * [`policy`]: what a profile lets the guest do with which file.
//! * [`wait`]: the one way to block; [`time`]: the one place clocks are read.
//! * [`syscalls`]: the table, and the handlers that decode, check and call the above.
//!
//! No host system call is made here but through `platform::host` and the gofer client.
//! Every object is reachable from one [`kernel::Kernel`]; there are no globals.

#![forbid(unsafe_code)]

pub mod boot;
pub mod error;
pub mod fs;
pub mod kernel;
pub mod loader;
pub mod lock_order;
pub mod mm;
pub mod policy;
pub mod socket;
pub mod strace;
pub mod syscalls;
pub mod time;
pub mod user;
pub mod vfs;
pub mod wait;

pub use error::{Restart, SysError, SysResult};
pub use linux_abi::Errno;
