//! From a configuration to a running sandbox: mounts, standard streams, the first process.

mod config;
mod message;

pub use config::{Bytes, Config, MountSpec, OverlayMode, RootSpec, Strace, Terminal};
pub use message::{FromSentry, ToSentry};

use std::{os::fd::OwnedFd, sync::Arc};

use platform::{Platform, memory::MemoryFile};

/// What the sentry process was given.
#[derive(Debug)]
pub struct Sandbox {
    pub config: Config,
    pub platform: Arc<dyn Platform>,
    pub memory: Arc<MemoryFile>,
    /// The gofer's socket.
    pub gofer: OwnedFd,
    /// The launcher's socket.
    pub control: Arc<OwnedFd>,
    /// Where `--strace=FILE` goes.
    pub strace: OwnedFd,
    /// The standard streams.
    pub stdio: [OwnedFd; 3],
}

/// Runs the sandbox until its first process is gone.
pub fn run(_sandbox: Sandbox) -> FromSentry {
    FromSentry::Failed { status: 125, message: "the kernel is not there yet".to_owned() }
}
