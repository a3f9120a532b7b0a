//! The launcher while the command runs.

use std::{
    os::fd::AsFd,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::RecvFlags,
    process::{WaitId, WaitIdOptions, waitid},
};
use sentry::boot::{FromSentry, Panic, ToSentry};

use super::{
    cgroup::Group,
    crash_report::{self, Place},
    processes::Sandbox,
};
use crate::{EXIT_FAILED, control, terminal::Terminal};

/// As timeout(1).
const EXIT_TIME_LIMIT: u8 = 124;

/// How the sandbox ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Sentry(FromSentry),
    TimeLimit,
    /// The sentry went without a word, killed by this signal if by one.
    Lost {
        signal: Option<i32>,
    },
    /// The file server went while the command ran, likewise.
    GoferLost {
        signal: Option<i32>,
    },
    /// The host's kernel killed all: the control group had no memory left.
    OutOfMemory,
    /// An error of our own ended this process.
    Panicked {
        process: &'static str,
        panic: Panic,
    },
}

impl From<FromSentry> for Outcome {
    fn from(message: FromSentry) -> Self {
        match message {
            FromSentry::FilesLost => Self::GoferLost { signal: None },
            FromSentry::Panicked(panic) => {
                Self::Panicked { process: "the application kernel", panic }
            }
            message => Self::Sentry(message),
        }
    }
}

/// A sandbox that runs for so long is not over in a moment: what its start needed is let go.
pub(crate) const SETTLED: Duration = Duration::from_millis(500);

/// Signals that are for the command, as file descriptor.
pub(crate) fn catch_signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGWINCH,
        Signal::SIGTSTP,
        Signal::SIGCONT,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Serves the sandbox until it ends, or `limit` has passed.
pub(crate) fn until_exit(
    sandbox: &Sandbox,
    signals: &SignalFd,
    terminal: Option<&Terminal>,
    limit: Option<Duration>,
) -> Outcome {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut is_settled = false;
    let mut outcome = loop {
        let mut fds = [
            PollFd::new(&sandbox.control, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&sandbox.sentry, PollFlags::IN),
            PollFd::new(&sandbox.gofer, PollFlags::IN),
        ];
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            break Outcome::TimeLimit;
        }
        let timeout = if is_settled { left } else { Some(left.unwrap_or(SETTLED).min(SETTLED)) };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) if !is_settled => {
                is_settled = true;
                platform::host::leave_start_behind();
                continue;
            }
            Ok(_) => {}
            Err(_) => continue,
        }
        let [from_sentry, signal, gone, no_files] = fds.map(|fd| !fd.revents().is_empty());
        if from_sentry {
            match control::receive(&sandbox.control, RecvFlags::DONTWAIT) {
                Some(FromSentry::Stopped) => suspend(sandbox, signals, terminal),
                Some(message) => break Outcome::from(message),
                None => break Outcome::Lost { signal: None },
            }
        } else if gone {
            break Outcome::Lost { signal: None };
        } else if no_files {
            break last_words(sandbox).map_or(Outcome::GoferLost { signal: None }, Outcome::from);
        }
        if signal {
            pass_signals(sandbox, signals, terminal);
        }
    };
    let killed_by = end(sandbox);
    match &mut outcome {
        Outcome::Lost { signal } => *signal = killed_by[0],
        Outcome::GoferLost { signal } => *signal = killed_by[1],
        Outcome::Panicked { .. } => return outcome,
        Outcome::Sentry(_) | Outcome::TimeLimit | Outcome::OutOfMemory => {}
    }
    if killed_by.contains(&Some(libc::SIGKILL))
        && matches!(outcome, Outcome::Lost { .. } | Outcome::GoferLost { .. })
        && sandbox.group.as_ref().is_some_and(Group::was_out_of_memory)
    {
        return Outcome::OutOfMemory;
    }
    // However that came to the sentry's ears, and whether it did.
    match control::receive(&sandbox.gofer_report, RecvFlags::DONTWAIT) {
        Some(FromSentry::Panicked(panic)) => {
            Outcome::Panicked { process: "the file server", panic }
        }
        _ => outcome,
    }
}

/// The file server also ends, and well, when a sandbox that is done closes its socket: then the sentry's last
/// message is on its way, however long that takes on a busy host.
fn last_words(sandbox: &Sandbox) -> Option<FromSentry> {
    const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 800_000_000 };
    const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = waitid(WaitId::PidFd(sandbox.gofer.as_fd()), ended);
    let ended_well = status.ok().flatten().and_then(|status| status.exit_status()) == Some(0);
    let mut control = [PollFd::new(&sandbox.control, PollFlags::IN)];
    let _ = poll(&mut control, Some(if ended_well { &PATIENCE } else { &A_MOMENT }));
    control::receive(&sandbox.control, RecvFlags::DONTWAIT)
}

fn pass_signals(sandbox: &Sandbox, signals: &SignalFd, terminal: Option<&Terminal>) {
    while let Ok(Some(info)) = signals.read_signal() {
        let number = info.ssi_signo as i32;
        match terminal {
            Some(terminal) if number == Signal::SIGWINCH as i32 => resize(sandbox, terminal),
            _ if number == Signal::SIGCONT as i32 => resume(sandbox, terminal),
            _ => {
                // A terminal's signals are for a whole group, kill(2)'s for one process.
                let from_terminal = info.ssi_code == libc::SI_KERNEL;
                control::send(&sandbox.control, &ToSentry::Signal { number, from_terminal });
            }
        }
    }
}

fn resize(sandbox: &Sandbox, terminal: &Terminal) {
    let (rows, columns) = terminal.size();
    control::send(&sandbox.control, &ToSentry::Resize { rows, columns });
}

/// The command stopped: stop too, so that the user's shell takes over. By SIGTSTP, which does nothing where
/// there is no shell that could continue us.
fn suspend(sandbox: &Sandbox, signals: &SignalFd, terminal: Option<&Terminal>) {
    if let Some(terminal) = terminal {
        terminal.restore();
    }
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let _ = stop.thread_unblock();
    let _ = nix::sys::signal::raise(Signal::SIGTSTP);
    let _ = stop.thread_block();
    // What continued us is no signal for the command besides.
    while let Ok(Some(info)) = signals.read_signal() {
        if info.ssi_signo as i32 != Signal::SIGCONT as i32 {
            let number = info.ssi_signo as i32;
            control::send(&sandbox.control, &ToSentry::Signal { number, from_terminal: false });
        }
    }
    resume(sandbox, terminal);
}

/// Continued: the command goes on, with the terminal if we are in the foreground.
fn resume(sandbox: &Sandbox, terminal: Option<&Terminal>) {
    if let Some(terminal) = terminal {
        terminal.make_raw();
        resize(sandbox, terminal);
    }
    let foreground = terminal.is_some_and(Terminal::is_foreground);
    control::send(&sandbox.control, &ToSentry::Continue { foreground });
}

/// Ends what still runs, and waits until it is gone. The signals that killed sentry and gofer.
fn end(sandbox: &Sandbox) -> [Option<i32>; 2] {
    for process in [&sandbox.sentry, &sandbox.gofer] {
        let _ = rustix::process::pidfd_send_signal(process.as_fd(), rustix::process::Signal::KILL);
    }
    [&sandbox.sentry, &sandbox.gofer].map(|process| {
        let wait = WaitId::PidFd(process.as_fd());
        let status = rustix::io::retry_on_intr(|| waitid(wait.clone(), WaitIdOptions::EXITED));
        status.ok().flatten().and_then(|status| status.terminating_signal())
    })
}

const BY_FILTER: &str =
    "was killed by its seccomp filter (SIGSYS): it made a system call that is not listed";

/// A filter's verdict looks like any other death by SIGSYS.
fn killed_by_filter(signal: Option<i32>) -> bool {
    signal == Some(libc::SIGSYS)
}

/// The launcher's own exit status, and what there is to say.
pub(crate) fn report(outcome: Outcome, place: Option<&Place>) -> ExitCode {
    match outcome {
        Outcome::Sentry(FromSentry::Exited { code }) => (code as u8).into(),
        Outcome::Sentry(FromSentry::Signaled { signal }) => {
            (128_u8.wrapping_add(signal as u8)).into()
        }
        Outcome::Sentry(FromSentry::Failed { status, message }) => {
            eprintln!("lazaret: {message}");
            (status as u8).into()
        }
        Outcome::Sentry(FromSentry::FilesLost) => {
            report(Outcome::GoferLost { signal: None }, place)
        }
        Outcome::GoferLost { signal } => {
            match killed_by_filter(signal) {
                true => eprintln!("lazaret: the file server {BY_FILTER}; the command was killed"),
                false => {
                    eprintln!("lazaret: the file server ended unexpectedly; the command was killed")
                }
            }
            EXIT_FAILED.into()
        }
        Outcome::Sentry(FromSentry::Panicked(panic)) => {
            report(Outcome::from(FromSentry::Panicked(panic)), place)
        }
        Outcome::Panicked { process, panic } => {
            crash_report::say(process, &panic, place);
            EXIT_FAILED.into()
        }
        Outcome::TimeLimit => {
            eprintln!("lazaret: the command was killed: out of time (--time-limit)");
            EXIT_TIME_LIMIT.into()
        }
        Outcome::OutOfMemory => {
            eprintln!(
                "lazaret: the sandbox was killed by the host's kernel: over the memory limit of its control group"
            );
            EXIT_FAILED.into()
        }
        Outcome::Lost { signal } if killed_by_filter(signal) => {
            eprintln!("lazaret: the application kernel {BY_FILTER}");
            EXIT_FAILED.into()
        }
        Outcome::Sentry(FromSentry::Stopped) | Outcome::Lost { .. } => {
            eprintln!(
                "lazaret: the application kernel ended unexpectedly; run with --log-level debug to see why"
            );
            EXIT_FAILED.into()
        }
    }
}
