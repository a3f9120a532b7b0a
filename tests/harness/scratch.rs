//! A directory of one's own which is removed afterwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty directory; dropping it removes it with all that is in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `base`. That should not be `/tmp`, which is private inside a sandbox.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(base: &Path) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("run.{}.{number}", process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is left for the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where programs are built and cases run: the build's own directory, or one of this process's below /var/tmp
/// when the project lies in /tmp, which a sandbox does not show. [`leave`] removes the latter.
pub fn workplace(target: &'static str) -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let target = Path::new(target);
        if target.starts_with("/tmp") { outside_tmp() } else { target.to_owned() }
    })
}

fn outside_tmp() -> PathBuf {
    let place = PathBuf::from(format!("/var/tmp/lazaret-tests.{}", process::id()));
    // What goes wrong here shows when the place is used.
    let _ = fs::create_dir_all(&place);
    place
}

/// Removes the workplace if it is no part of the build's directory; at the end of a test program.
pub fn leave(target: &'static str) {
    let place = workplace(target);
    if !Path::new(target).starts_with(place) && place.starts_with("/var/tmp") {
        let _ = fs::remove_dir_all(place);
    }
}
