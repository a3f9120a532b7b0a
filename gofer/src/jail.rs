//! What the process gives up before it answers its first request.
//!
//! In two steps. [`enter`] comes before the trees are opened: descriptors, the
//! right to gain privileges, and, for the superuser, all of the mount tree but
//! what is served. [`seal`] comes after: capabilities, Landlock, system calls.
//!
//! A user without privileges gets no user namespace: in one, the files of
//! everybody else would seem to belong to nobody, which the guest would see.
//! Landlock does the same work there.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal},
    stdio::{dup2_stdin, dup2_stdout},
    thread::set_no_new_privs,
};

use crate::{GoferError, ServerConfig, server::Server};

mod capabilities;
mod landlock;
mod mounts;

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

/// Why a part of the jail is not to be had.
type Refusal = Box<dyn std::error::Error>;

/// Tries a part of the jail; whether it is in force.
fn attempt(
    need: Need,
    what: &'static str,
    part: impl FnOnce() -> Result<(), Refusal>,
) -> Result<bool, GoferError> {
    if need == Need::Off {
        return Ok(false);
    }
    match part() {
        Ok(()) => Ok(true),
        Err(error) if need == Need::Must => {
            Err(GoferError::Jail { what, error: std::io::Error::other(error.to_string()) })
        }
        Err(error) => {
            tracing::debug!("the gofer cannot {what}: {error}");
            Ok(false)
        }
    }
}

/// First step. Closes all descriptors but `control`, the one to be kept and standard error; the
/// paths in `config` may be others afterwards.
pub(crate) fn enter(
    options: &Options,
    config: &mut ServerConfig,
    control: &OwnedFd,
) -> Result<Report, GoferError> {
    let failed =
        |what| move |error: rustix::io::Errno| GoferError::Jail { what, error: error.into() };
    close_others(control, config.kept)?;
    set_no_new_privs(true).map_err(failed("renounce new privileges"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbid tracing"))?;
    // The end of the client's socket ends the gofer; this is for a gofer that hangs.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("end with the parent"))?;
    let mounts =
        attempt(options.mounts, "have a mount namespace of its own", || mounts::enter(config))?;
    Ok(Report { mounts, ..Report::default() })
}

/// Second step, when all trees are open and there is still one thread only.
pub(crate) fn seal(
    options: &Options,
    server: &Server,
    report: &mut Report,
) -> Result<(), GoferError> {
    let writes = server.trees().any(|tree| !tree.config().read_only);
    capabilities::drop_all_but_file_access(writes)
        .map_err(|error| GoferError::Jail { what: "drop capabilities", error: error.into() })?;
    report.landlock =
        attempt(options.landlock, "use Landlock", || landlock::restrict(server.trees()))?;
    report.seccomp =
        attempt(options.seccomp, "filter system calls", || Ok(policies::GOFER.install()?))?;
    Ok(())
}

/// Closes what the process inherited, and turns standard input and output away
/// from the terminal.
fn close_others(control: &OwnedFd, besides: Option<RawFd>) -> Result<(), GoferError> {
    let failed = |error: std::io::Error| GoferError::Jail { what: "close descriptors", error };
    let kept = [0, 1, 2, control.as_raw_fd(), besides.unwrap_or(0)];
    let mut others = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        others.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for fd in others.into_iter().filter(|fd| !kept.contains(fd)) {
        // The listing itself is among them, and closed by now.
        let _ = nix::unistd::close(fd);
    }
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(error.into()))?;
    if control.as_raw_fd() != 0 {
        dup2_stdin(null.as_fd()).map_err(|error| failed(error.into()))?;
    }
    if control.as_raw_fd() != 1 {
        dup2_stdout(null.as_fd()).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}
