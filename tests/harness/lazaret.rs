//! Finding the `lazaret` binary which the suite tests.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The platforms which the suites run on: `kvm` only when `LAZARET_TEST_KVM` is set, as few hosts have it.
pub fn platforms() -> &'static [&'static str] {
    match env::var_os("LAZARET_TEST_KVM") {
        Some(_) => &["systrap", "ptrace", "kvm"],
        None => &["systrap", "ptrace"],
    }
}

/// The binary under test: `$LAZARET_BIN`, or else the one next to this test's
/// executable, brought up to date with the profile that the test was built with.
///
/// # Errors
/// A sentence, when there is no binary and none can be built.
pub fn binary() -> Result<&'static Path, String> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY.get_or_init(find).as_deref().map_err(Clone::clone)
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("LAZARET_BIN") {
        return existing(PathBuf::from(path));
    }
    // target/<triple>/<profile>/deps/<test>
    let test = env::current_exe().map_err(|error| format!("this executable: {error}"))?;
    let directory = test
        .parent()
        .and_then(Path::parent)
        .ok_or_else(|| format!("{} is in no target directory", test.display()))?;
    if let Some(cargo) = env::var_os("CARGO") {
        let profile = match directory.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--package", "cli", "--profile", profile])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .map_err(|error| format!("cargo build: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "lazaret does not build:\n{}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    existing(directory.join("lazaret"))
}

fn existing(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("no lazaret binary at {}: build it, or set LAZARET_BIN", path.display()))
    }
}

/// `lazaret run --platform PLATFORM OPTIONS --`, to which the guest's command is added.
///
/// # Errors
/// As [`binary`].
pub fn run_on(platform: &str, options: &[&str]) -> Result<Command, String> {
    let mut command = Command::new(binary()?);
    command.args(["run", "--platform", platform]).args(options).arg("--");
    Ok(command)
}
