//! System calls at random, made by a guest: `guest/calls.c`, with a few seeds and for a moment. Long runs are by hand
//! (docs/testing.md).

#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::{
    lazaret::{self, platforms},
    process,
    scratch::{leave, workplace},
};

const SEEDS: [u32; 4] = [1, 2, 3, 4];
const MILLISECONDS: &str = "1200";
/// Of a busy host; in the sandbox it is half of that.
const LIMIT: Duration = Duration::from_secs(60);

fn build() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/calls.c");
    let program = workplace(env!("CARGO_TARGET_TMPDIR")).join("calls");
    if let Some(directory) = program.parent() {
        fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    let output = Command::new("gcc")
        .args(["-std=gnu17", "-O1", "-pthread", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .output()
        .map_err(|error| format!("gcc: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(program)
}

/// The honest first process ends with 0: the sandbox neither failed (125) nor ran out of time (124).
fn calls(platform: &str, seed: u32, program: &Path) -> Result<(), Failed> {
    let mut command = Command::new(lazaret::binary()?);
    command
        .args(["run", "--platform", platform, "--time-limit", "30", "--memory", "1G"])
        .args(["--pids", "200", "--files", "4000", "--disk", "200M", "--"])
        .arg(program)
        .args([&seed.to_string(), MILLISECONDS])
        .current_dir(workplace(env!("CARGO_TARGET_TMPDIR")))
        .stdin(Stdio::null());
    let finished = process::run(&mut command, LIMIT).map_err(|error| error.to_string())?;
    match finished.code() {
        Some(0) => Ok(()),
        _ => Err(format!("seed {seed}: {}", finished.describe()).into()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let program = match build() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = platforms().iter().flat_map(|platform| {
        let program = &program;
        SEEDS.map(move |seed| {
            let program = program.clone();
            Trial::test(format!("{platform}::calls_with_seed_{seed}"), move || {
                calls(platform, seed, &program)
            })
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    leave(env!("CARGO_TARGET_TMPDIR"));
    conclusion.exit_code()
}
