//! Compiling the guest programs of `tests/programs` and listing their cases.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::process;

/// Families which are also built as dynamic executables, under the name
/// `<family>_dynamic`: those where the loader, the C library's own threads or
/// its relocations make a difference.
const DYNAMIC: [&str; 4] = ["exec", "mmap", "signals", "threads"];

/// Families which also run with `--rseq`, under the name `<family>_rseq`: those whose threads wait, stop and
/// interrupt each other.
const WITH_RSEQ: [&str; 4] = ["futex", "ptrace", "signals", "threads"];

/// One case of one guest program.
#[derive(Clone, Debug)]
pub struct Case {
    /// `family::case`.
    pub name: String,
    /// The compiled program.
    pub program: PathBuf,
    /// What to tell the program: its case's name.
    pub argument: String,
    /// For `lazaret run`.
    pub options: &'static [&'static str],
}

/// One way of building one source file.
struct Build {
    source: PathBuf,
    program: PathBuf,
    family: String,
    is_static: bool,
    options: &'static [&'static str],
}

/// Compiles what is out of date into `target` and lists all cases.
///
/// # Errors
/// A sentence, with the compiler's output if it was the compiler that failed.
pub fn build_all(sources: &Path, target: &Path) -> Result<Vec<Case>, String> {
    fs::create_dir_all(target).map_err(|error| format!("{}: {error}", target.display()))?;
    let builds = plan(sources, target).map_err(|e| format!("{}: {e}", sources.display()))?;
    let frame = ["case.h", "rseq.h"].map(|name| modified(&sources.join(name))).into_iter().max();
    let frame = frame.flatten();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let share = builds.len().div_ceil(workers).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = builds
            .chunks(share)
            .map(|chunk| {
                scope.spawn(move || {
                    chunk.iter().try_fold(Vec::new(), |mut cases, build| {
                        compile(build, frame)?;
                        cases.extend(list(build)?);
                        Ok::<_, String>(cases)
                    })
                })
            })
            .collect();
        let mut cases = Vec::new();
        for thread in threads {
            cases.extend(thread.join().map_err(|_| "a compiling thread panicked".to_owned())??);
        }
        Ok(cases)
    })
}

fn plan(sources: &Path, target: &Path) -> io::Result<Vec<Build>> {
    let mut builds = Vec::new();
    for entry in fs::read_dir(sources)? {
        let source = entry?.path();
        if source.extension().is_none_or(|extension| extension != "c") {
            continue;
        }
        let Some(stem) = source.file_stem().and_then(|stem| stem.to_str()) else {
            continue;
        };
        let mut add = |family: String, is_static, options| {
            let program = target.join(&family);
            builds.push(Build { source: source.clone(), program, family, is_static, options });
        };
        const RSEQ: &[&str] = &["--rseq"];
        add(stem.to_owned(), true, if stem.starts_with("rseq") { RSEQ } else { &[] });
        if DYNAMIC.contains(&stem) {
            add(format!("{stem}_dynamic"), false, &[]);
        }
        if WITH_RSEQ.contains(&stem) {
            add(format!("{stem}_rseq"), true, RSEQ);
        }
    }
    builds.sort_by(|a, b| a.family.cmp(&b.family));
    Ok(builds)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn compile(build: &Build, frame: Option<SystemTime>) -> Result<(), String> {
    let built = modified(&build.program);
    if built.is_some() && built > frame && built > modified(&build.source) {
        return Ok(());
    }
    // Under another name first: a compiler that was interrupted leaves no program.
    let partial = build.program.with_extension("partial");
    let output = Command::new("gcc")
        .args(["-std=gnu17", "-O1", "-g", "-pthread", "-Wall", "-Werror"])
        .args(build.is_static.then_some("-static"))
        .arg("-o")
        .arg(&partial)
        .arg(&build.source)
        .args(["-lm", "-lrt", "-lutil"])
        .output()
        .map_err(|error| format!("gcc: {error}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} does not compile:\n{text}", build.source.display()));
    }
    fs::rename(&partial, &build.program)
        .map_err(|error| format!("{}: {error}", build.program.display()))
}

fn list(build: &Build) -> Result<Vec<Case>, String> {
    let finished =
        process::run(Command::new(&build.program).arg("--list"), Duration::from_secs(10))
            .map_err(|error| format!("{}: {error}", build.program.display()))?;
    if finished.code() != Some(0) {
        return Err(format!("{} --list: {}", build.family, finished.describe()));
    }
    Ok(finished
        .stdout
        .lines()
        .map(|argument| Case {
            name: format!("{}::{argument}", build.family),
            program: build.program.clone(),
            argument: argument.to_owned(),
            options: build.options,
        })
        .collect())
}
