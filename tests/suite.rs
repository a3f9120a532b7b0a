//! The compatibility suite: every case of every guest program, natively (the
//! oracle) and on each platform. A test is named `runner::family::case`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tests::lazaret::{self, platforms};
use tests::programs::Case;
use tests::scratch::{Scratch, leave, workplace};
use tests::steady::steady;
use tests::{expectations, process, programs};

/// A program gives up after 10 s by itself; this is for when that fails too.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// A case and what the host's own kernel made of it, found out at most once.
struct Oracle {
    case: Case,
    native: OnceLock<Outcome>,
}

impl Oracle {
    fn native(&self) -> &Outcome {
        self.native.get_or_init(|| {
            let tried = steady(&format!("native::{}", self.case.name), || {
                // A case removes its directory, if it is not killed and can still reach it.
                let Ok(scratch) = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR"))) else {
                    return Err("no scratch directory".to_owned());
                };
                let mut command = Command::new(&self.case.program);
                match run(command.env("TMPDIR", scratch.path()), &self.case) {
                    Outcome::Failed(why) => Err(why),
                    outcome => Ok(outcome),
                }
            });
            tried.unwrap_or_else(Outcome::Failed)
        })
    }
}

fn run(command: &mut Command, case: &Case) -> Outcome {
    // A directory that exists inside as well, wherever the project lies.
    command.current_dir(workplace(env!("CARGO_TARGET_TMPDIR")));
    match process::run(command.arg(&case.argument).stdin(Stdio::null()), LIMIT) {
        Err(error) => Outcome::Failed(format!("cannot run: {error}")),
        Ok(finished) => match finished.code() {
            Some(0) => Outcome::Passed,
            Some(77) => Outcome::Skipped(finished.stderr.trim_end().to_owned()),
            _ => Outcome::Failed(finished.describe()),
        },
    }
}

fn native_trial(oracle: Arc<Oracle>) -> Trial {
    let name = format!("native::{}", oracle.case.name);
    Trial::ignorable_test(name, move || match oracle.native() {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed(why) => Err(Failed::from(why)),
    })
}

fn platform_trial(platform: &'static str, oracle: Arc<Oracle>, expected: Option<String>) -> Trial {
    let name = format!("{platform}::{}", oracle.case.name);
    Trial::ignorable_test(name, move || {
        match oracle.native() {
            Outcome::Passed => {}
            Outcome::Skipped(reason) => return Ok(Completion::ignored_with(reason)),
            Outcome::Failed(why) => return Err(Failed::from(format!("oracle: {why}"))),
        }
        let attempt = || {
            let mut command = lazaret::run_on(platform, oracle.case.options)?;
            match run(command.arg(&oracle.case.program), &oracle.case) {
                Outcome::Passed => Ok(()),
                Outcome::Skipped(reason) => {
                    Err(format!("passes natively, but here it is {reason}"))
                }
                Outcome::Failed(why) => Err(why),
            }
        };
        // A case that is known to fail needs no second opinion.
        let result = match expected {
            Some(_) => attempt(),
            None => steady(&format!("{platform}::{}", oracle.case.name), attempt),
        };
        expectations::judge(result, expected.as_deref())
    })
}

fn trials() -> Result<Vec<Trial>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = workplace(env!("CARGO_TARGET_TMPDIR")).join("programs");
    let oracles: Vec<_> = programs::build_all(&root.join("programs"), &target)?
        .into_iter()
        .map(|case| Arc::new(Oracle { case, native: OnceLock::new() }))
        .collect();
    let known: Vec<_> = oracles.iter().map(|oracle| oracle.case.name.as_str()).collect();
    let mut trials: Vec<_> = oracles.iter().cloned().map(native_trial).collect();
    for platform in platforms() {
        let list = root.join("expectations").join(platform).with_extension("toml");
        let expected = expectations::load(&list, &known)?;
        trials.extend(oracles.iter().map(|oracle| {
            platform_trial(platform, oracle.clone(), expected.get(&oracle.case.name).cloned())
        }));
    }
    Ok(trials)
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let status = match trials() {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    };
    leave(env!("CARGO_TARGET_TMPDIR"));
    status
}
