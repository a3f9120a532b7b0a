//! Errors of Lazaret's own: a panic of any thread of sentry or gofer ends the sandbox with 125, one line and a report.
//!
//! This program is `lazaret` once more, whose log is a subscriber that panics where it is told to: in the middle of
//! a system call, on a thread of the sentry's own, in the file server. So nothing in the real program has to know.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::expect_used, reason = "that is what is tested")]

use std::{
    fmt::{Debug, Write as _},
    fs,
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::{
    lazaret::platforms,
    process,
    scratch::{Scratch, workplace},
};
use tracing::{Event, Metadata, Subscriber, field, span};

const LIMIT: Duration = Duration::from_secs(20);

/// In the path of a tree: the file server is to panic.
const GOFER_AT_START: &str = "gofer-panics-at-start";
const GOFER_LATER: &str = "gofer-panics-later";
/// A system call that no kernel has; a task that makes it panics in the middle.
const CALL: u64 = 4000;
/// What must not be told.
const SECRET: &str = "secret of the guest";

/// Panics where it is told to.
struct Saboteur {
    gofer: Option<&'static str>,
}

impl Subscriber for Saboteur {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let says = |what| text.0.contains(what);
        if says("system call not implemented") && text.0.contains(&format!("number={CALL}")) {
            panic!("injected {}: {SECRET:?}", 1);
        }
        if says("out of memory") {
            panic!("injected 2: {SECRET:?}");
        }
        match self.gofer {
            Some(GOFER_AT_START) if says("jailed") => panic!("injected 3: {SECRET:?}"),
            Some(GOFER_LATER) if says("jailed") => {
                thread::spawn(|| {
                    // Its filter lists no call that sleeps.
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(400) {
                        std::hint::spin_loop();
                    }
                    panic!("injected 4: {SECRET:?}");
                });
            }
            _ => {}
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// All fields of an event.
struct Text(String);

impl field::Visit for Text {
    fn record_debug(&mut self, field: &field::Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

fn main() -> ExitCode {
    let role = std::env::args().nth(1).unwrap_or_default();
    if role.starts_with("internal-") {
        // The configuration, by way of a descriptor of its own.
        let config = fs::read_to_string("/proc/self/fd/3").unwrap_or_default();
        let markers = [GOFER_AT_START, GOFER_LATER].into_iter();
        let gofer = markers.filter(|_| role == "internal-gofer").find(|at| config.contains(at));
        tracing::subscriber::set_global_default(Saboteur { gofer }).expect("the first one");
    }
    if role == "run" || role.starts_with("internal-") {
        return cli::main();
    }
    let mut trials = Vec::new();
    for platform in platforms() {
        let mut add = |case: &'static Case| {
            let name = format!("{platform}::{}", case.name);
            trials.push(Trial::test(name, move || check(case, platform)));
        };
        CASES.iter().for_each(&mut add);
    }
    trials.push(Trial::test("report_in_the_users_directory_for_state", in_state_home));
    trials.push(Trial::test("no_place_for_a_report", nowhere));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

struct Case {
    name: &'static str,
    options: &'static [&'static str],
    /// For sh(1).
    script: &'static str,
    says: &'static str,
    /// Lines of the report.
    reports: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "in_the_middle_of_a_system_call",
        options: &[],
        script: "sleep 600 & perl -e 'syscall(4000); sleep 600'",
        says: "internal error in the application kernel: injected 1: … (cli/tests/panics.rs:",
        reports: &[
            "process: the application kernel\n",
            "thread: task\n",
            "message: injected 1: …\n",
            "last system call: 4000 (unknown)\n",
            "task: process ",
            "version: lazaret 0",
        ],
    },
    Case {
        name: "on_a_thread_of_the_sentrys_own",
        options: &["--memory", "32M"],
        script: "perl -e '$x = \"x\" x (64 << 20); sleep 600'; sleep 600",
        says: "internal error in the application kernel: injected 2: …",
        reports: &["thread: oom\n"],
    },
    Case {
        name: "in_the_file_server_at_its_start",
        options: &["--ro-bind", GOFER_AT_START],
        script: "sleep 600",
        says: "internal error in the file server: injected 3: …",
        reports: &["process: the file server\n", "thread: main\n"],
    },
    Case {
        name: "on_a_thread_of_the_file_server",
        options: &["--ro-bind", GOFER_LATER],
        script: "while :; do ls -lR /usr/share/doc > /dev/null; done",
        says: "internal error in the file server: injected 4: …",
        reports: &["thread: unnamed\n"],
    },
];

fn command(directory: &Path, platform: &str) -> std::io::Result<Command> {
    for name in [GOFER_AT_START, GOFER_LATER, "log"] {
        fs::create_dir_all(directory.join(name))?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--platform", platform]).current_dir(directory);
    command.env_remove("XDG_STATE_HOME").stdin(std::process::Stdio::null());
    Ok(command)
}

/// Runs it; what it said, when it ended as it should.
fn failed(command: &mut Command, says: &str) -> Result<String, Failed> {
    let finished = process::run(command, LIMIT)?;
    if finished.code() != Some(125) {
        return Err(format!("want exit status 125: {}", finished.describe()).into());
    }
    let said = finished.stderr.trim_end().to_owned();
    if !said.contains(says) || said.lines().count() != 1 || said.contains(SECRET) {
        return Err(format!("want one line with {says:?}: {said}").into());
    }
    Ok(said)
}

/// The only report in `directory`.
fn report(directory: &Path) -> Result<String, Failed> {
    let mut files = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let file = files.find(|path| path.to_string_lossy().contains("/crash-"));
    Ok(fs::read_to_string(file.ok_or("no report")?)?)
}

fn check(case: &Case, platform: &str) -> Result<(), Failed> {
    let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
    let mut command = command(scratch.path(), platform)?;
    command.args(["--log", "log/file"]).args(case.options).args(["--", "sh", "-c", case.script]);
    let said = failed(&mut command, case.says)?;
    let report = report(&scratch.path().join("log"))?;
    for line in case.reports {
        if !report.contains(line) || report.contains(SECRET) {
            return Err(format!("want {line:?} in the report: {report}").into());
        }
    }
    if said.contains("; report: log/crash-") { none_left() } else { Err(said.into()) }
}

/// Nothing of the sandbox may live on: of its processes, those that run this program stand for all.
fn none_left() -> Result<(), Failed> {
    let Some(own) = fs::read_link("/proc/self/exe").ok() else { return Ok(()) };
    let pid = std::process::id();
    let left = || {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let others = processes.filter(|entry| entry.file_name().to_str() != Some(&pid.to_string()));
        others.filter(|entry| {
            let parent_is = |line: &str| line.strip_prefix("PPid:").map(str::trim) == Some("1");
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == own)
                && status.lines().any(parent_is)
        })
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while left().count() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    match left().next() {
        None => Ok(()),
        Some(entry) => Err(format!("left behind: {}", entry.path().display()).into()),
    }
}

fn in_state_home() -> Result<(), Failed> {
    let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
    let mut command = command(scratch.path(), "auto")?;
    command.env("XDG_STATE_HOME", scratch.path()).args(["--", "perl", "-e", "syscall(4000)"]);
    failed(&mut command, "/lazaret/crash-")?;
    report(&scratch.path().join("lazaret")).map(drop)
}

fn nowhere() -> Result<(), Failed> {
    let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
    let mut command = command(scratch.path(), "auto")?;
    command.args(["--", "perl", "-e", "syscall(4000)"]);
    let said = failed(&mut command, "injected 1")?;
    if said.contains("report") { Err(said.into()) } else { Ok(()) }
}
