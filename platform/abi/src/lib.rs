//! The Linux user ABI: numbers, structures and flag sets which the guest, the
//! sentry and the gofer agree on. Pure data: nothing here makes a system call.
//!
//! Constants that the `libc` crate has are taken from there; this crate adds
//! types with meaning (`Errno`, flag sets) and the structures which cross the
//! user boundary, with derives that make reading and writing them as bytes safe.

#![forbid(unsafe_code)]

mod errno;
pub mod event;
pub mod process;
pub mod rseq;
pub mod signal;
pub mod socket;
pub mod stat;
pub mod sysv;
pub mod termios;
pub mod time;

pub use errno::Errno;
pub use signal::{SigInfo, SigSet, Signal};
pub use termios::{Termios, Termios2, WindowSize};
