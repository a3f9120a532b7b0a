//! What the launcher and the sentry say to each other, one JSON object a packet.

use serde::{Deserialize, Serialize};

/// From the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSentry {
    /// The launcher got this signal: it is for the command; from a terminal, for all of its foreground.
    Signal { number: i32, from_terminal: bool },
    /// The terminal's size changed.
    Resize { rows: u16, columns: u16 },
    /// The launcher goes on after a stop; in the foreground it has the terminal's input again.
    Continue { foreground: bool },
}

/// From the sentry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSentry {
    /// The command ended by itself.
    Exited { code: i32 },
    /// The command was killed by this signal.
    Signaled { signal: i32 },
    /// It could not be started, or Lazaret failed: exit with `status`, saying `message`.
    Failed { status: i32, message: String },
    /// The command stopped, and nobody inside can continue it: give the user's shell a turn. Nothing more is
    /// read from the terminal.
    Stopped,
    /// The file server went, and the command was killed for it.
    FilesLost,
    /// An error of Lazaret's own ended the process that says so.
    Panicked(Panic),
}

/// What is told of a panic. No guest memory is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panic {
    pub text: String,
    /// File, line and column.
    pub location: String,
    /// The host thread's name.
    pub thread: String,
    /// Process and thread number inside of the task that it served.
    pub task: Option<(i32, i32)>,
    /// Number of that task's last system call.
    pub last_call: Option<u64>,
}
