//! What the launcher says and writes when an error of our own ended the sandbox.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
use sentry::{boot::Panic, syscalls::table};

use crate::panics::clip;

/// Where reports go: beside the log, or below the user's directory for state.
///
/// Opened before the command runs, which may be able to move directories that it was given.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OwnedFd,
    path: PathBuf,
    /// Name of a directory in it that is made when it is needed.
    below: Option<&'static str>,
}

impl Place {
    /// The directory of the log file `log`; or else `$XDG_STATE_HOME/lazaret`; or else nowhere.
    pub(crate) fn find(log: Option<&Path>) -> Option<Self> {
        let (path, below) = match log {
            Some(log) => match log.parent() {
                Some(parent) if parent != Path::new("") => (parent.to_owned(), None),
                _ => (PathBuf::from("."), None),
            },
            None => {
                let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
                // A relative one is to be ignored (XDG Base Directory Specification).
                (state.filter(|path| path.is_absolute())?, Some("lazaret"))
            }
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&path, flags, Mode::empty()).ok()?;
        Some(Self { directory, path, below })
    }

    /// Writes a new file; its path.
    fn write(&self, text: &str) -> std::io::Result<PathBuf> {
        let (directory, path);
        let directory = match self.below {
            None => {
                path = self.path.clone();
                &self.directory
            }
            Some(below) => {
                // It may be there.
                let _ = mkdirat(&self.directory, below, Mode::RWXU);
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                directory = openat(&self.directory, below, flags, Mode::empty())?;
                path = self.path.join(below);
                &directory
            }
        };
        let name = format!("crash-{}-{}.txt", now(), std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
        File::from(file).write_all(text.as_bytes())?;
        Ok(path.join(name))
    }
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Says in one line what happened in `process`, and writes the report where there is a place for one.
pub(super) fn say(process: &str, panic: &Panic, place: Option<&Place>) {
    // A process that was taken over can say anything.
    let (text, location) = (clip(&panic.text), clip(&panic.location));
    let report = match place.map(|place| place.write(&full_text(process, panic))) {
        None => String::new(),
        Some(Ok(path)) => format!("; report: {}", path.display()),
        Some(Err(error)) => format!("; no report could be written: {error}"),
    };
    eprintln!("lazaret: internal error in {process}: {text} ({location}){report}");
}

fn full_text(process: &str, panic: &Panic) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name}: {}", clip(value));
    };
    line("version", concat!("lazaret ", env!("CARGO_PKG_VERSION")));
    line("time", &format!("{} s since the epoch", now()));
    line("process", process);
    line("thread", &panic.thread);
    line("message", &panic.text);
    line("location", &panic.location);
    if let Some((pid, tid)) = panic.task {
        line("task", &format!("process {pid}, thread {tid}"));
    }
    if let Some(number) = panic.last_call {
        let name = table::entry(number).map_or("unknown", |entry| entry.name);
        line("last system call", &format!("{number} ({name})"));
    }
    out
}
