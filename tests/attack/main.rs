//! The attack suite: guest programs that know how Lazaret is built and try to get out, on each platform and each rung
//! of the jail. Whatever they do, the host's files, processes and sockets must be untouched, and the sandbox alive.
#![forbid(unsafe_code)]

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tests::lazaret::{self, platforms};
use tests::process::{self, Finished};
use tests::programs::{self, Case};
use tests::scratch::{Scratch, leave, workplace};

const LIMIT: Duration = Duration::from_secs(30);
const RUNGS: [&str; 2] = ["namespaces", "landlock"];
const HARMLESS: &str = "harmless";
/// Directories and their rules.
const GUARDED: [(&str, &str); 4] =
    [("hidden", "hide"), ("denied", "deny"), ("unreadable", "deny read"), ("free", "")];

fn profile(guarded: &Path) -> String {
    let rules = GUARDED.iter().filter(|(_, rule)| !rule.is_empty()).map(|(directory, rule)| {
        let rule = format!("{rule} {}", guarded.join(directory).display());
        format!("{rule:?},\n")
    });
    format!("[files]\nrules = [\n{}]\n", rules.collect::<String>())
}

/// What on the host a sandbox must not reach.
struct Host {
    scratch: Scratch,
    secret: String,
    sentinel: Child,
    /// Kept open, so that somebody listens.
    _listeners: [UnixListener; 2],
}

impl Host {
    fn new() -> std::io::Result<Self> {
        let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
        let place = scratch.path();
        let secret = format!("secret of {}", place.display());
        for directory in ["hidden", "shared", "shared/swap"] {
            fs::create_dir(place.join(directory))?;
        }
        fs::write(place.join("hidden/canary"), &secret)?;
        fs::write(place.join("shared/swap/canary"), HARMLESS)?;
        // What the rules of a profile protect, in a tree that the sandbox may write.
        let guarded = place.join("shared/guarded");
        for (directory, rule) in GUARDED {
            fs::create_dir_all(guarded.join(directory))?;
            if !rule.is_empty() {
                fs::write(guarded.join(directory).join("canary"), &secret)?;
            }
        }
        fs::write(place.join("profile.toml"), profile(&guarded))?;
        std::os::unix::fs::symlink(place.join("hidden"), place.join("shared/swapped"))?;
        let sentinel = Command::new("sleep").arg("120").spawn()?;
        let name = format!("lazaret-attack-{}", sentinel.id());
        let address = SocketAddr::from_abstract_name(name)?;
        let listeners =
            [UnixListener::bind(place.join("shared/s"))?, UnixListener::bind_addr(&address)?];
        Ok(Self { scratch, secret, sentinel, _listeners: listeners })
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Swaps `shared/swap`, a directory, and `shared/swapped`, a link, until told to end.
    fn swap(&self, done: &AtomicBool) {
        let (a, b) = (self.path().join("shared/swap"), self.path().join("shared/swapped"));
        while !done.load(Ordering::Relaxed) {
            let _ = renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE);
            thread::sleep(Duration::from_micros(50));
        }
    }

    /// What is not as it was.
    fn damage(&mut self, finished: &Finished) -> Result<(), String> {
        let told =
            [&finished.stdout, &finished.stderr].iter().any(|text| text.contains(&self.secret));
        if told {
            return Err("the secret was told".to_owned());
        }
        if self.sentinel.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Err("the sentinel process was killed".to_owned());
        }
        let hidden = self.path().join("hidden");
        let canary =
            fs::read_to_string(hidden.join("canary")).map_err(|e| format!("canary: {e}"))?;
        if canary != self.secret {
            return Err(format!("the canary was changed: {canary:?}"));
        }
        let entries: Vec<_> =
            fs::read_dir(hidden).map_err(|e| e.to_string())?.filter_map(Result::ok).collect();
        if entries.len() != 1 {
            return Err(format!("something was made in the hidden directory: {entries:?}"));
        }
        for directory in ["hidden", "denied"] {
            let canary = self.path().join("shared/guarded").join(directory).join("canary");
            let kept = fs::read_to_string(canary);
            if kept.as_ref().ok() != Some(&self.secret) {
                return Err(format!("the file with the rule {directory} was changed: {kept:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.sentinel.kill();
        let _ = self.sentinel.wait();
    }
}

fn attack(platform: &str, rung: &str, case: &Case) -> Result<(), Failed> {
    let mut host = Host::new().map_err(|error| format!("cannot prepare the host: {error}"))?;
    let (hidden, shared) = (host.path().join("hidden"), host.path().join("shared"));
    let mut command = Command::new(lazaret::binary()?);
    command
        .args(["run", "--platform", platform, "--jail", rung, "--memory", "1G", "--tmpfs"])
        .arg(&hidden)
        .arg("--bind")
        .arg(&shared)
        .args(["--log-level", "error", "--profile"])
        .arg(host.path().join("profile.toml"))
        .arg("--")
        .arg(&case.program)
        .arg(&case.argument)
        .env("HIDDEN", &hidden)
        .env("SHARED", &shared)
        .env("GUARDED", shared.join("guarded"))
        .env("SENTINEL", host.sentinel.id().to_string())
        .current_dir(workplace(env!("CARGO_TARGET_TMPDIR")))
        .stdin(Stdio::null());
    let done = AtomicBool::new(false);
    let finished = thread::scope(|scope| {
        scope.spawn(|| host.swap(&done));
        let finished = process::run(&mut command, LIMIT);
        done.store(true, Ordering::Relaxed);
        finished
    });
    let finished = finished.map_err(|error| format!("cannot run: {error}"))?;
    host.damage(&finished)?;
    match finished.code() {
        Some(0) => Ok(()),
        _ => Err(finished.describe().into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("attack");
    let target = workplace(env!("CARGO_TARGET_TMPDIR")).join("attack");
    let cases = match programs::build_all(&sources, &target) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for platform in platforms() {
        for rung in RUNGS {
            for case in cases.clone() {
                let name = format!("{platform}::{rung}::{}", case.name);
                trials.push(Trial::test(name, move || attack(platform, rung, &case)));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    leave(env!("CARGO_TARGET_TMPDIR"));
    conclusion.exit_code()
}
