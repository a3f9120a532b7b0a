//! Starts the gofer and the sentry.

use std::{
    ffi::CString,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, Result};
use platform::host::spawn::{Namespaces, Spawn};
use rustix::fs::{MemfdFlags, SealFlags};

use super::{cgroup::Group, config::Plan};
use crate::{
    args::{JailArg, PlatformArg, RunArgs},
    control, gofer_role,
    jail::Wanted,
    sentry_role,
};

/// The running processes, as the launcher holds them.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) control: OwnedFd,
    pub(crate) sentry: OwnedFd,
    pub(crate) gofer: OwnedFd,
    /// Where the file server tells of its panic.
    pub(crate) gofer_report: OwnedFd,
    /// What all but the launcher are in; dropped when they have ended.
    pub(crate) group: Option<Group>,
}

/// Starts both; they set themselves up side by side.
pub(crate) fn start(plan: &Plan, args: &RunArgs) -> Result<Sandbox> {
    let exe = File::open("/proc/self/exe").context("cannot open the lazaret program itself")?;
    let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
    let (gofer_socket, sentry_gofer_socket) = control::pair()?;
    let (launcher_end, sentry_end) = control::pair()?;
    let (gofer_report, gofer_end) = control::pair()?;
    let log = match &args.log {
        Some(path) => Some(create(path).with_context(|| format!("log file {}", path.display()))?),
        None => None,
    };
    let strace = match &args.strace {
        Some(Some(path)) => {
            Some(create(path).with_context(|| format!("strace file {}", path.display()))?)
        }
        _ => None,
    };
    let audit = match &args.audit {
        Some(path) => {
            Some(create_lossy(path).with_context(|| format!("audit file {}", path.display()))?)
        }
        None => None,
    };
    let kvm = match args.platform {
        PlatformArg::Kvm => Some(platform::open_kvm()?),
        PlatformArg::Auto if platform::kvm_may_be_fast() => platform::open_kvm().ok(),
        PlatformArg::Auto | PlatformArg::Systrap | PlatformArg::Ptrace => None,
    };
    let std = |open: bool, fd: BorrowedFd<'static>| if open { Some(fd) } else { None };
    let [stdin, stdout, stderr] = [
        std(plan.sentry.stdio_open[0], rustix::stdio::stdin()),
        std(plan.sentry.stdio_open[1], rustix::stdio::stdout()),
        std(plan.sentry.stdio_open[2], rustix::stdio::stderr()),
    ]
    .map(|fd| fd.unwrap_or(null.as_fd()));
    let log_fd = log.as_ref().map_or(stderr, AsFd::as_fd);

    let group = Group::make(plan.group);
    let members = group.as_ref().map(Group::members);

    let gofer_config = config_file(&gofer_role::config(plan))?;
    let gofer = Spawn {
        exe: exe.as_fd(),
        args: vec![c"lazaret".into(), CString::new(gofer_role::NAME)?],
        fds: vec![
            null.as_fd(),
            null.as_fd(),
            log_fd,
            gofer_config.as_fd(),
            gofer_socket.as_fd(),
            gofer_end.as_fd(),
        ],
        namespaces: Namespaces::empty(),
        ids: (0, 0),
        group: members,
    };
    let gofer = gofer.start().context("cannot start the file server")?;

    let sentry_config = config_file(&plan.sentry)?;
    let wanted = Wanted { jail: args.jail, allow_weak: args.allow_weak_jail };
    let fds = vec![
        stdin,
        stdout,
        stderr,
        sentry_config.as_fd(),
        sentry_gofer_socket.as_fd(),
        sentry_end.as_fd(),
        log_fd,
        strace.as_ref().map_or(null.as_fd(), AsFd::as_fd),
        audit.as_ref().map_or(null.as_fd(), AsFd::as_fd),
        kvm.as_ref().map_or(null.as_fd(), AsFd::as_fd),
    ];
    let start_in = |namespaces: Namespaces| -> Result<OwnedFd> {
        let has_mounts = namespaces.contains(Namespaces::MOUNT);
        let mut args = vec![c"lazaret".into(), CString::new(sentry_role::NAME)?];
        for arg in wanted.to_args(has_mounts) {
            args.push(CString::new(arg)?);
        }
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let sentry =
            Spawn { exe: exe.as_fd(), args, fds: fds.clone(), namespaces, ids, group: members };
        sentry.start().context("cannot start the application kernel")
    };
    // The superuser can do without a user namespace. Without any the jail rests on Landlock and seccomp; the sentry
    // itself refuses when more was asked for.
    let sentry = match wanted.jail {
        JailArg::Landlock => start_in(Namespaces::empty()),
        JailArg::Auto | JailArg::Namespaces => start_in(Namespaces::all())
            .or_else(|_| start_in(Namespaces::all() - Namespaces::USER))
            .or_else(|_| start_in(Namespaces::empty())),
    }?;
    Ok(Sandbox { control: launcher_end, sentry, gofer, gofer_report, group })
}

fn create(path: &std::path::Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// As [`create`]; writing to it never waits for a reader.
fn create_lossy(path: &std::path::Path) -> std::io::Result<File> {
    let file = create(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(file)
}

/// A sealed file with a configuration in it.
fn config_file(config: &impl serde::Serialize) -> Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(
        "lazaret-config",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    let bytes = serde_json::to_vec(config)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let n = rustix::io::write(&fd, rest)?;
        rest = rest.get(n..).unwrap_or_default();
    }
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    rustix::fs::fcntl_add_seals(
        &fd,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(fd)
}
