//! What the launcher and the sentry say to each other, one JSON object a packet.

use serde::{Deserialize, Serialize};

/// From the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSentry {
    /// The launcher got this signal: it is for the command.
    Signal(i32),
    /// The terminal's size changed.
    Resize { rows: u16, columns: u16 },
    /// The launcher is in the foreground again after a stop.
    Continue,
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
    /// The command stopped, and nobody inside can continue it: give the user's shell a turn.
    Stopped,
}
