//! What the process gives up before it answers its first request.

use std::os::fd::OwnedFd;

use crate::{GoferError, ServerConfig, server::Server};

/// Whether a part of the jail is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Need {
    Off,
    /// Where the host lets us.
    #[default]
    Try,
    /// Or not start at all.
    Must,
}

/// The parts of the jail. What needs no leave of the host is always done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A mount namespace with nothing but the served trees: for the superuser only.
    pub mounts: Need,
    /// Landlock rules that allow nothing outside of the served trees.
    pub landlock: Need,
    /// A system-call filter.
    pub seccomp: Need,
}

/// Which parts are in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub mounts: bool,
    pub landlock: bool,
    pub seccomp: bool,
}

pub(crate) fn enter(
    _options: &Options,
    _config: &mut ServerConfig,
    _control: &OwnedFd,
) -> Result<Report, GoferError> {
    Ok(Report::default())
}

pub(crate) fn seal(
    _options: &Options,
    _server: &Server,
    _report: &mut Report,
) -> Result<(), GoferError> {
    Ok(())
}
