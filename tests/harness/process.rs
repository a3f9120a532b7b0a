//! Running one command with a time limit, and ending all that it started.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What was waited for; `None` when the time limit passed first.
    pub status: Option<ExitStatus>,
    /// The start of standard output, as text.
    pub stdout: String,
    /// The start of standard error, as text.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// The exit code, or 128 + N after signal N, as a shell has it.
    pub fn code(&self) -> Option<i32> {
        let status = self.status?;
        status.code().or_else(|| status.signal().map(|signal| 128 + signal))
    }

    /// The outcome in a few words, with standard error.
    pub fn describe(&self) -> String {
        let outcome = match self.status {
            None => format!("no end after {} s: killed", self.took.as_secs()),
            Some(status) => status.to_string(),
        };
        let stderr = self.stderr.trim_end();
        if stderr.is_empty() { outcome } else { format!("{stderr} [{outcome}]") }
    }
}

/// Output beyond this is read, so that the command goes on, and dropped.
const OUTPUT_LIMIT: usize = 4 << 20;

/// Runs `command` in a process group of its own and kills the group once the command has ended or `limit`
/// has passed.
///
/// # Errors
/// When the command cannot be started or waited for.
pub fn run(command: &mut Command, limit: Duration) -> io::Result<Finished> {
    run_and_look(command, limit, || ())
}

/// As [`run`]; calls `look` when the command has ended, before its group is killed.
///
/// # Errors
/// As [`run`].
pub fn run_and_look(
    command: &mut Command,
    limit: Duration,
    look: impl FnOnce(),
) -> io::Result<Finished> {
    run_watched(command, limit, |_| (), look)
}

/// As [`run_and_look`]; calls `started` with the command's number when it has started.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    command: &mut Command,
    limit: Duration,
    started: impl FnOnce(u32),
    look: impl FnOnce(),
) -> io::Result<Finished> {
    let start = Instant::now();
    let mut child =
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    started(child.id());
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
            break None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let took = start.elapsed();
    if status.is_some() {
        look();
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Usually there is nobody left and this fails.
        let _ = kill_process_group(group, Signal::KILL);
    }
    if status.is_none() {
        child.wait()?;
    }
    // A process which left the group may hold the pipe: do not wait for it.
    let patience = Duration::from_secs(2);
    Ok(Finished {
        status,
        stdout: stdout.recv_timeout(patience).unwrap_or_default(),
        stderr: stderr.recv_timeout(patience).unwrap_or_default(),
        took,
    })
}

/// Reads a pipe to its end on a thread of its own.
fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        let mut chunk = vec![0; 1 << 16];
        if let Some(mut pipe) = pipe {
            while let Ok(size @ 1..) = pipe.read(&mut chunk) {
                let keep = size.min(OUTPUT_LIMIT.saturating_sub(text.len()));
                text.extend_from_slice(chunk.get(..keep).unwrap_or_default());
            }
        }
        // The receiver has gone if the run was given up.
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver
}
