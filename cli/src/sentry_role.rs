//! The sentry process: `lazaret` executed again as the application kernel.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use platform::{PlatformKind, host::spawn::take_inherited_fd, memory::MemoryFile};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::RecvFlags,
};
use sentry::{
    boot::{self, Config, FromSentry, Running},
    strace::LineSink,
};
use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use crate::{EXIT_FAILED, control, jail, panics, run::SETTLED};

/// The hidden sub-command.
pub(crate) const NAME: &str = "internal-sentry";

const CONFIG: i32 = 3;
const GOFER: i32 = 4;
const CONTROL: i32 = 5;
const LOG: i32 = 6;
const STRACE: i32 = 7;
const AUDIT: i32 = 8;
/// `/dev/kvm`; the virtual machine takes its place. The filter names it.
const KVM: i32 = 9;

/// See `run::processes` for the descriptors.
pub(crate) fn main() -> ExitCode {
    let Some(control) = take_inherited_fd(CONTROL) else {
        eprintln!("lazaret: this sub-command is started by `lazaret run` only");
        return EXIT_FAILED.into();
    };
    let control = Arc::new(control);
    panics::end_process_on_panic(control.clone());
    let message = serve(&control).unwrap_or_else(|error| FromSentry::Failed {
        status: EXIT_FAILED.into(),
        message: format!("{error:#}"),
    });
    control::send(&*control, &message);
    // Without running destructors: tasks may still be at work, and die with the process.
    std::process::exit(0)
}

/// A configuration, from an inherited descriptor.
pub(crate) fn read_config<T: serde::de::DeserializeOwned>(fd: i32) -> Result<T> {
    let mut bytes = Vec::new();
    File::from(inherited(fd)?).read_to_end(&mut bytes).context("cannot read the configuration")?;
    serde_json::from_slice(&bytes).context("cannot understand the configuration")
}

pub(crate) fn inherited(fd: i32) -> Result<OwnedFd> {
    take_inherited_fd(fd).ok_or_else(|| anyhow!("descriptor {fd} was not passed"))
}

fn serve(control: &Arc<OwnedFd>) -> Result<FromSentry> {
    let _ = rustix::thread::set_name(c"lazaret-boot");
    let config: Config = read_config(CONFIG)?;
    log_to(inherited(LOG)?, &config.log_level);
    let gofer = inherited(GOFER)?;
    let strace = inherited(STRACE)?;
    let audit = inherited(AUDIT)?;
    let stdio = [inherited(0)?, inherited(1)?, inherited(2)?];
    let kvm = inherited(KVM)?;
    platform::host::raise_open_files();
    platform::host::widen_descriptor_table(&gofer);

    let memory =
        Arc::new(MemoryFile::new(config.memory_limit).context("cannot make the memory file")?);
    let kind = match config.platform.as_str() {
        "systrap" => PlatformKind::Systrap,
        "ptrace" => PlatformKind::Ptrace,
        "kvm" => PlatformKind::Kvm,
        _ => PlatformKind::Auto,
    };
    // It may be /dev/null, which is found out then.
    let may_use =
        kind == PlatformKind::Kvm || kind == PlatformKind::Auto && platform::kvm_may_be_fast();
    let kvm = may_use.then_some(kvm);
    // Capabilities are a thread's own: the walls go up before there is a second thread. What the
    // platform has to read of /proc it finds remembered.
    platform::host::remember_own_maps();
    platform::host::open_own_memory();
    let (wanted, own_mounts) = jail::Wanted::from_args(std::env::args().skip(2));
    let rung = jail::enter(wanted, own_mounts)?;
    tracing::debug!(jail = %rung, "set up");
    let platform =
        platform::start(kind, memory.clone(), kvm).context("cannot use this platform")?;
    let _ = rustix::thread::set_name(c"lazaret-sentry");
    let strace = config.strace.as_ref().map(|to| match to {
        boot::Strace::File => line_sink(strace),
        boot::Strace::Stderr => stdio[2].try_clone().map_or_else(|_| line_sink(strace), line_sink),
    });
    let audit = config.audit.then_some(audit);
    let sandbox =
        boot::Sandbox { config, platform, memory, gofer, strace, audit, stdio, seal: jail::seal };
    let running = match sandbox.start() {
        Ok(running) => Arc::new(running),
        Err(error) => {
            let (status, message) = (error.status(), error.to_string());
            return Ok(FromSentry::Failed { status, message });
        }
    };
    listen(control.clone(), running.clone())?;
    Ok(running.wait(|message| control::send(&**control, &message)))
}

/// A thread that passes on what the launcher says, and ends the process when the launcher is gone.
fn listen(control: Arc<OwnedFd>, running: Arc<Running>) -> Result<()> {
    let work = move || {
        let mut message = [PollFd::new(&*control, PollFlags::IN)];
        let settled = Timespec::try_from(SETTLED).ok();
        if poll(&mut message, settled.as_ref()) == Ok(0) {
            platform::host::leave_start_behind();
        }
        while let Some(message) = control::receive(&*control, RecvFlags::empty()) {
            running.hear(&message);
        }
        std::process::exit(EXIT_FAILED.into());
    };
    let thread = std::thread::Builder::new().name("launcher".into()).stack_size(128 << 10);
    thread.spawn(work).map(drop).context("cannot start a thread")
}

/// Writes whole lines to `fd`.
fn line_sink(fd: OwnedFd) -> LineSink {
    let file = File::from(fd);
    Box::new(move |line| {
        // A line is one write, so that lines of several threads do not mix.
        let _ = (&file).write_all(line);
    })
}

/// Everything Lazaret itself has to say goes to `fd`.
#[expect(
    clippy::disallowed_types,
    reason = "tracing-subscriber takes a standard mutex as a writer"
)]
fn log_to(fd: OwnedFd, level: &str) {
    let filter = EnvFilter::new(level);
    let writer = BoxMakeWriter::new(std::sync::Mutex::new(File::from(fd)));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
