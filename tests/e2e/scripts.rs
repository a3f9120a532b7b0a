//! Shell scripts whose standard output and exit status must be the same
//! natively and on every platform.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use serde::Deserialize;
use tests::lazaret::{self, platforms};
use tests::scratch::{Scratch, workplace};
use tests::steady::steady;
use tests::{expectations, process};

const TABLES: [&str; 3] = ["shell.toml", "python.toml", "tools.toml"];

/// Where the programs are looked for: Debian's own, not what a user has added.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

const LIMIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Script>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    /// Programs without which the case is left out.
    #[serde(default)]
    needs: Vec<String>,
    /// Whether it may be left out even where everything else must be installed.
    #[serde(default)]
    optional: bool,
    script: String,
}

impl Script {
    fn missing(&self) -> Option<&str> {
        let installed = |program: &&String| {
            !PATH.split(':').any(|directory| Path::new(directory).join(program.as_str()).exists())
        };
        self.needs.iter().find(installed).map(String::as_str)
    }
}

/// What a script wrote and how it ended.
type Answer = Result<(String, Option<i32>), String>;

struct Oracle {
    script: Script,
    native: OnceLock<Answer>,
}

impl Oracle {
    fn native(&self) -> &Answer {
        self.native.get_or_init(|| run(Command::new("sh"), &self.script.script).map(first))
    }
}

fn first(answer: (String, Option<i32>, String)) -> (String, Option<i32>) {
    (answer.0, answer.1)
}

/// Runs the script in a fresh directory: its output, exit code, standard error.
fn run(mut command: Command, script: &str) -> Result<(String, Option<i32>, String), String> {
    let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))
        .map_err(|error| format!("no scratch directory: {error}"))?;
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .current_dir(scratch.path())
        .env_clear()
        .envs([("PATH", PATH), ("LANG", "C.UTF-8")])
        .envs(["HOME", "TMPDIR"].map(|name| (name, scratch.path())));
    let finished = process::run(&mut command, LIMIT).map_err(|error| error.to_string())?;
    if finished.status.is_none() {
        return Err(format!("{}; output so far:\n{}", finished.describe(), finished.stdout));
    }
    let code = finished.code();
    Ok((finished.stdout, code, finished.stderr))
}

fn trial(platform: &'static str, oracle: Arc<Oracle>, expected: Option<String>) -> Trial {
    let name = format!("{platform}::{}", oracle.script.name);
    Trial::ignorable_test(name, move || {
        if let Some(program) = oracle.script.missing() {
            return if env::var_os("CI").is_some() && !oracle.script.optional {
                Err(Failed::from(format!("{program} is not installed")))
            } else {
                Ok(Completion::ignored_with(format!("{program} is not installed")))
            };
        }
        let (want, code) = oracle.native().as_ref().map_err(|why| format!("oracle: {why}"))?;
        if platform == "native" {
            return Ok(Completion::Completed);
        }
        let attempt = || {
            let mut command = lazaret::run_on(platform, &[])?;
            command.arg("sh");
            let (got, status, stderr) = run(command, &oracle.script.script)?;
            if got == *want && status == *code {
                return Ok(());
            }
            Err(format!(
                "exit status {status:?}, natively {code:?}\n{}standard error:\n{stderr}",
                difference(&got, want)
            ))
        };
        let result = match expected {
            Some(_) => attempt(),
            None => steady(&format!("{platform}::{}", oracle.script.name), attempt),
        };
        expectations::judge(result, expected.as_deref())
    })
}

/// The first line which is not as it should be, with its surroundings.
fn difference(got: &str, want: &str) -> String {
    let mut pairs = got.lines().zip(want.lines()).enumerate();
    let at = pairs
        .find(|(_, (got, want))| got != want)
        .map_or(got.lines().count().min(want.lines().count()), |(line, _)| line);
    let excerpt = |text: &str| {
        text.lines().skip(at).take(5).map(|line| format!("    {line}\n")).collect::<String>()
    };
    format!("line {}:\n{}natively:\n{}", at + 1, excerpt(got), excerpt(want))
}

/// One test for each script and runner.
pub(crate) fn trials() -> Result<Vec<Trial>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut oracles = Vec::new();
    for table in TABLES {
        let path = root.join("e2e").join(table);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let table: Table = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let oracle = |script| Arc::new(Oracle { script, native: OnceLock::new() });
        oracles.extend(table.case.into_iter().map(oracle));
    }
    let known: Vec<_> = oracles.iter().map(|oracle| oracle.script.name.as_str()).collect();
    let mut trials: Vec<_> = oracles.iter().map(|o| trial("native", o.clone(), None)).collect();
    for platform in platforms() {
        let list = root.join("expectations").join(format!("{platform}-e2e.toml"));
        let expected = expectations::load(&list, &known)?;
        trials.extend(oracles.iter().map(|oracle| {
            trial(platform, oracle.clone(), expected.get(&oracle.script.name).cloned())
        }));
    }
    Ok(trials)
}
