//! The attack suite: guest programs that know how Lazaret is built and try to get out, on each platform and each rung
//! of the jail. Whatever they do, the host's files, processes and sockets must be untouched, and the sandbox alive.
#![forbid(unsafe_code)]

mod host;
mod sandbox;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::lazaret::platforms;
use tests::process::{self, Finished};
use tests::programs::{self, Case};
use tests::scratch::{leave, workplace};

use crate::host::Host;
use crate::sandbox::{Setting, descendants, own_memory};

const LIMIT: Duration = Duration::from_secs(30);
/// What a case ends with that needs rights which this user has not (`tests/programs/case.h`).
const SKIPPED: i32 = 77;
const RUNGS: [&str; 2] = ["namespaces", "landlock"];
/// What the sentry may have for itself when guests have as much as they can: that, the limit on their memory, and as much as
/// can come between two looks.
const MOST_OF_SENTRY: u64 = (64 + 256 + 128) << 20;

fn verdict(host: &mut Host, finished: &Finished) -> Result<(), Failed> {
    host.damage(finished)?;
    match finished.code() {
        Some(0 | SKIPPED) => Ok(()),
        _ => Err(finished.describe().into()),
    }
}

fn prepared() -> Result<Host, Failed> {
    Host::new().map_err(|error| format!("cannot prepare the host: {error}").into())
}

fn cannot_run(error: io::Error) -> Failed {
    format!("cannot run: {error}").into()
}

/// One sandbox, while somebody on the host swaps a directory for a link.
fn attack(setting: Setting, case: &Case) -> Result<(), Failed> {
    let mut host = prepared()?;
    let mut command = setting.command(&host, case)?;
    let done = AtomicBool::new(false);
    let (finished, swapped) = thread::scope(|scope| {
        let swapped = scope.spawn(|| host.swap(&done));
        let finished = process::run(&mut command, LIMIT);
        done.store(true, Ordering::Relaxed);
        (finished, swapped.join())
    });
    changed(swapped)?;
    verdict(&mut host, &finished.map_err(cannot_run)?)
}

/// Did somebody on the host do his part all the time?
fn changed(outcome: thread::Result<io::Result<()>>) -> Result<(), Failed> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        other => Err(format!("the host's files were not changed: {other:?}").into()),
    }
}

/// One sandbox, while somebody on the host changes the files that it uses.
fn stall(setting: Setting, case: &Case) -> Result<(), Failed> {
    let mut host = prepared()?;
    host.make_unsteady(&case.program).map_err(cannot_run)?;
    let mut command = setting.command(&host, case)?;
    let done = AtomicBool::new(false);
    let (finished, unsettled) = thread::scope(|scope| {
        let unsettled = scope.spawn(|| host.unsettle(&case.program, &done));
        let finished = process::run(&mut command, LIMIT);
        done.store(true, Ordering::Relaxed);
        (finished, unsettled.join())
    });
    changed(unsettled)?;
    verdict(&mut host, &finished.map_err(cannot_run)?)
}

/// One sandbox; the sentry must not grow beyond its limit.
fn exhaust(setting: Setting, case: &Case) -> Result<(), Failed> {
    let mut host = prepared()?;
    let mut command = setting.command(&host, case)?;
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let finished = thread::scope(|scope| {
        let watch = |launcher: u32| {
            let (done, most) = (&done, &most);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let processes = descendants(launcher);
                    let now = processes.into_iter().map(own_memory).max().unwrap_or(0);
                    most.fetch_max(now, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        };
        let finished = process::run_watched(&mut command, LIMIT, watch, || ());
        done.store(true, Ordering::Relaxed);
        finished
    });
    let most = most.into_inner();
    if most > MOST_OF_SENTRY {
        return Err(format!("a process had {} MiB of its own", most >> 20).into());
    }
    verdict(&mut host, &finished.map_err(cannot_run)?)
}

/// Two sandboxes, which are told of each other's processes.
fn neighbours(setting: Setting, case: &Case) -> Result<(), Failed> {
    let mut host = prepared()?;
    let launchers = [AtomicU32::new(0), AtomicU32::new(0)];
    let done = AtomicBool::new(false);
    let mut commands = [setting.command(&host, case)?, setting.command(&host, case)?];
    let results = thread::scope(|scope| {
        let runs: Vec<_> = commands
            .iter_mut()
            .zip(&launchers)
            .enumerate()
            .map(|(number, (command, launcher))| {
                command.env("NEIGHBOUR", number.to_string());
                let started = |pid: u32| launcher.store(pid, Ordering::Relaxed);
                scope.spawn(move || process::run_watched(command, LIMIT, started, || ()))
            })
            .collect();
        scope.spawn(|| introduce(&host, setting.processes(), &launchers, &done));
        let results: Vec<_> = runs.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        results
    });
    for finished in results {
        let finished = finished.map_err(|_| "a thread panicked".to_owned())?.map_err(cannot_run)?;
        verdict(&mut host, &finished)?;
    }
    Ok(())
}

/// Once both run, writes to each the numbers of the other's processes.
fn introduce(
    host: &Host,
    processes: usize,
    launchers: &[AtomicU32; 2],
    done: &AtomicBool,
) -> io::Result<()> {
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        let launchers = launchers.each_ref().map(|launcher| launcher.load(Ordering::Relaxed));
        let both = launchers.map(descendants);
        if launchers.contains(&0) || both.iter().any(|found| found.len() < processes) {
            continue;
        }
        let place = host.path().join("shared/neighbours");
        for (number, (other, launcher)) in both.iter().rev().zip(launchers.iter().rev()).enumerate()
        {
            let numbers: String =
                other.iter().chain([launcher]).map(|pid| format!("{pid}\n")).collect();
            let partial = place.join(format!("{number}.partial"));
            fs::write(&partial, numbers)?;
            fs::rename(partial, place.join(number.to_string()))?;
        }
        return Ok(());
    }
    Ok(())
}

/// How cases of a family are run, and on which rungs.
type Run = fn(Setting, &Case) -> Result<(), Failed>;

fn how(case: &Case) -> (Run, &'static str, &'static [&'static str]) {
    match case.name.split("::").next() {
        // It is the same on each.
        Some("exhaustion") => (exhaust, "256M", &RUNGS[..1]),
        Some("neighbours") => (neighbours, "1G", &RUNGS),
        Some("stalls") => (stall, "1G", &RUNGS),
        _ => (attack, "1G", &RUNGS),
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
        for case in &cases {
            let (run, memory, rungs) = how(case);
            for rung in rungs {
                let name = format!("{platform}::{rung}::{}", case.name);
                let (setting, case) = (Setting { platform, rung, memory }, case.clone());
                trials.push(Trial::test(name, move || run(setting, &case)));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    leave(env!("CARGO_TARGET_TMPDIR"));
    conclusion.exit_code()
}
