//! Terminals: pseudo-terminals and the sandbox's console.
//!
//! A [`Tty`] is both ends of a pseudo-terminal. Programs use the *slave*, which has a line discipline
//! (input editing, echoes, signals), a window size, and belongs to a session; the *master* types
//! and sees what is printed. The [`Console`] is a terminal whose master is the launcher.
//!
//! * `line_discipline`, `echo`, `input`, `output`, `termios`, `packet`: the terminal as such, with no task in it;
//! * `pair`: both ends with their queues; `slave_file`, `master_file`: what descriptors do;
//! * `ioctl`: ioctl_tty(2); `job_control`: who may use the terminal, and who gets its signals;
//! * `table`: the terminals of one devpts.
//!
//! # Lock order
//! ```text
//! TaskSet
//!   Tty          a terminal's state
//! ```
//! Signals are sent and waiters woken after the terminal's lock is released.

mod console;
mod echo;
mod input;
mod ioctl;
mod job_control;
mod line_discipline;
mod master_file;
mod output;
mod packet;
mod pair;
mod peer;
mod slave_file;
mod table;
mod termios;
#[cfg(test)]
mod tests;

pub use console::{Console, ConsoleSink};
pub use job_control::controlling_tty;
pub use master_file::MasterFile;
pub use pair::{Groups, Tty};
pub use slave_file::SlaveFile;
pub use table::{MAX_TTYS, TtyTable};
