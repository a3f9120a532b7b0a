//! What on the host a sandbox must not reach, and what somebody there keeps changing.

use std::fs::{self, File};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use tests::process::Finished;
use tests::scratch::{Scratch, workplace};

const HARMLESS: &str = "harmless";
/// Directories and their rules.
const GUARDED: [(&str, &str); 4] =
    [("hidden", "hide"), ("denied", "deny"), ("unreadable", "deny read"), ("free", "")];

/// Of files that are cut and grown again; the largest that one becomes.
const SIZE: u64 = 64 << 10;
const LONGEST_LOG: u64 = 16 << 20;

fn profile(guarded: &Path) -> String {
    let rules = GUARDED.iter().filter(|(_, rule)| !rule.is_empty()).map(|(directory, rule)| {
        let rule = format!("{rule} {}", guarded.join(directory).display());
        format!("{rule:?},\n")
    });
    format!("[files]\nrules = [\n{}]\n", rules.collect::<String>())
}

/// What on the host a sandbox must not reach.
pub(crate) struct Host {
    scratch: Scratch,
    secret: String,
    pub(crate) sentinel: Child,
    /// Nobody is to connect.
    listeners: [UnixListener; 2],
}

impl Host {
    pub(crate) fn new() -> io::Result<Self> {
        let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
        let place = scratch.path();
        let secret = format!("secret of {}", place.display());
        for directory in ["hidden", "shared", "shared/swap", "shared/neighbours"] {
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
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        Ok(Self { scratch, secret, sentinel, listeners })
    }

    pub(crate) fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Swaps `shared/swap`, a directory, and `shared/swapped`, a link, until told to end.
    pub(crate) fn swap(&self, done: &AtomicBool) -> io::Result<()> {
        let (a, b) = (self.path().join("shared/swap"), self.path().join("shared/swapped"));
        while !done.load(Ordering::Relaxed) {
            renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE)?;
            thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// Makes the files that [`Self::unsettle`] changes; `program` is to be run inside.
    pub(crate) fn make_unsteady(&self, program: &Path) -> io::Result<()> {
        let place = self.path().join("shared/unsteady");
        fs::create_dir_all(place.join("mounted"))?;
        for name in ["size", "log", "kind"] {
            File::create(place.join(name))?.set_len(SIZE)?;
        }
        fs::copy(program, place.join("program"))?;
        mknodat(CWD, place.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o666), 0)?;
        Ok(())
    }

    /// Changes files under whoever uses them, until told to end.
    pub(crate) fn unsettle(&self, program: &Path, done: &AtomicBool) -> io::Result<()> {
        let place = self.path().join("shared/unsteady");
        let text = fs::read(program)?;
        let open = |name: &str| File::options().read(true).write(true).open(place.join(name));
        let (size, log, program) = (open("size")?, open("log")?, open("program")?);
        let mut end = SIZE;
        while !done.load(Ordering::Relaxed) {
            size.set_len(0)?;
            program.set_len(4096)?;
            renameat_with(CWD, place.join("kind"), CWD, place.join("fifo"), RenameFlags::EXCHANGE)?;
            log.write_all_at(&[b'l'; 4096], end)?;
            end = if end < LONGEST_LOG { end + 4096 } else { SIZE };
            thread::sleep(Duration::from_micros(100));
            size.set_len(SIZE)?;
            program.write_all_at(&text, 0)?;
            thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    }

    /// What is not as it was.
    pub(crate) fn damage(&mut self, finished: &Finished) -> Result<(), String> {
        let told =
            [&finished.stdout, &finished.stderr].iter().any(|text| text.contains(&self.secret));
        if told {
            return Err("the secret was told".to_owned());
        }
        if self.sentinel.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Err("the sentinel process was killed".to_owned());
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.sentinel.id()));
        let stat = stat.map_err(|error| format!("sentinel: {error}"))?;
        if stat.contains(") T ") || stat.contains(") t ") {
            return Err("the sentinel process was stopped".to_owned());
        }
        for listener in &self.listeners {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Err(format!("somebody connected: {other:?}")),
            }
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
