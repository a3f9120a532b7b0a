//! From a configuration to a running sandbox: mounts, standard streams, the first process.

mod config;
mod message;

pub use config::{Config, MountSpec, OverlayMode, RootSpec, Strace, Terminal};
pub use message::{FromSentry, ToSentry};
