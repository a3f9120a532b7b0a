//! Runs each target over its corpus, and for some seconds over mutations of that: `docs/testing.md` says how to use it.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_types,
    reason = "a lock of the test's own, which no kernel lock is taken under"
)]

use std::{
    alloc::System,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use fuzz::{
    TARGETS, Target,
    mutate::{Random, mutated},
};
use libtest_mimic::{Arguments, Failed, Trial};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Mutations of a target go on for so long, unless `FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 3;
/// The same mutations each time, unless `FUZZ_SEED` says otherwise.
const SEED: u64 = 1;
/// One execution that takes longer hangs.
const EXECUTION_LIMIT: Duration = Duration::from_secs(20);

/// An input under execution, and since when.
type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<(Instant, Vec<u8>)>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    // Directories are listed in no order, and mutations are to be the same each time.
    paths.sort();
    let files = paths.iter().filter_map(|path| fs::read(path).ok());
    (target.seeds)().into_iter().chain(files).collect()
}

/// Leaves an input where it can be found; the path.
fn keep(target: &Target, input: &[u8]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let name = format!("{}-{:016x}", target.name, checksum(input));
    let path = directory.join(name);
    let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, input));
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
    }
    path
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    let mix = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Runs one input.
fn execute(target: &Target, input: &[u8], current: &Current) -> Result<(), String> {
    let bound = target.memory.map(|memory| memory(input.len()));
    *lock(current) = Some((Instant::now(), input.to_vec()));
    let region = Region::new(ALLOCATOR);
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let used = region.change().bytes_allocated;
    *lock(current) = None;
    if ran.is_err() {
        return Err(format!("a property does not hold for {}", keep(target, input).display()));
    }
    match bound {
        Some(bound) if used > bound => {
            let path = keep(target, input);
            Err(format!("{used} bytes are allocated for {}, not {bound}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Ends the process when an execution does not end.
fn watch(target: Target, current: Current) {
    thread::spawn(move || {
        while Arc::strong_count(&current) > 1 {
            thread::sleep(Duration::from_millis(500));
            let stuck = lock(&current).as_ref().and_then(|(since, input)| {
                (since.elapsed() > EXECUTION_LIMIT).then(|| keep(&target, input))
            });
            if let Some(path) = stuck {
                eprintln!("{} hangs with {}", target.name, path.display());
                std::process::abort();
            }
        }
    });
}

fn fuzz(target: Target) -> Result<(), Failed> {
    let pool = corpus(&target);
    let current = Current::default();
    watch(target, current.clone());
    // What is made once is no input's doing.
    (target.run)(&[]);
    for input in &pool {
        execute(&target, input, &current)?;
    }
    let (mut executions, mut random) = (pool.len(), Random::new(number("FUZZ_SEED", SEED)));
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", SECONDS));
    while Instant::now() < end {
        execute(&target, &mutated(&pool, &mut random, target.max_len), &current)?;
        executions += 1;
    }
    println!("{}: {executions} executions, {} of them of the corpus", target.name, pool.len());
    Ok(())
}

/// `FUZZ_INPUT=FILE` runs that alone, of the target it is for.
fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // What is allocated is counted for the whole process.
    arguments.test_threads = Some(1);
    let given = std::env::var_os("FUZZ_INPUT").map(PathBuf::from);
    let trials = TARGETS.iter().map(|target| {
        let given = given.clone();
        Trial::test(target.name, move || match given {
            None => fuzz(*target),
            Some(path) => {
                let input =
                    fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(execute(target, &input, &Current::default())?)
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
