//! The `lazaret` command given bad input, closed streams and signals: exit
//! status, one clear line, and no process left behind.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use tests::lazaret::{self, platforms};
use tests::process::{self, Finished};
use tests::scratch::{Scratch, workplace};
use tests::steady::steady;

const LIMIT: Duration = Duration::from_secs(30);

/// How long the processes of a sandbox may take to vanish.
const GRACE: Duration = Duration::from_secs(5);

/// A variable that marks all processes of one test, whose value is its own.
const MARK: &str = "LAZARET_TEST_MARK";

/// One shell command, in which `$LAZARET` is the binary, and `$RUN` runs it on the platform under test.
pub(crate) struct Case {
    name: &'static str,
    script: &'static str,
    /// The exit status.
    code: i32,
    /// What the first line of standard error says; empty if it is to be empty.
    says: &'static str,
}

pub(crate) const fn case(
    name: &'static str,
    script: &'static str,
    code: i32,
    says: &'static str,
) -> Case {
    Case { name, script, code, says }
}

/// Compares what rseq(2), the auxiliary vector and membarrier(2) say.
macro_rules! ask_for_rseq {
    ($wanted:literal) => {
        concat!(
            "/usr/bin/env python3 -c 'if 1:
            from ctypes import CDLL, get_errno
            from errno import ENOSYS, EINVAL
            libc = CDLL(None, use_errno=True)
            assert libc.syscall(334, 64, 32, 0, 0) == -1
            seen = get_errno(), libc.getauxval(27), libc.syscall(324, 0, 0, 0) & 384
            assert seen == (",
            $wanted,
            "), seen'"
        )
    };
}

const CASES: &[Case] = &[
    // Exit statuses.
    case("exit_status_is_passed_on", "$LAZARET run -- sh -c 'exit 42'", 42, ""),
    case("success_is_silent", "$LAZARET run -- true", 0, ""),
    case("death_by_sigterm_is_143", "$LAZARET run -- sh -c 'kill -TERM $$'", 143, ""),
    case("death_by_sigkill_is_137", "$LAZARET run -- sh -c 'kill -KILL $$'", 137, ""),
    case("death_by_sigsegv_is_139", "$LAZARET run -- sh -c 'kill -SEGV $$'", 139, ""),
    case("time_limit_is_124", "$LAZARET run --time-limit 0.3 -- sleep 60", 124, "time"),
    case(
        "more_open_files_than_the_host_allows_is_an_error_inside",
        "ulimit -n 600; $LAZARET run --bind . -- /usr/bin/env python3 -c 'if 1:
            import subprocess
            files = []
            try:
                while True: files.append(open(\"file\"))
            except OSError as error:
                reason = error.errno
            files.clear()
            assert reason in (23, 24), reason
            assert subprocess.call([\"true\"]) == 0'",
        0,
        "",
    ),
    // Restartable sequences, as a kernel without CONFIG_RSEQ has them; and if asked for.
    case("no_rseq_unless_asked_for", concat!("$RUN -- ", ask_for_rseq!("ENOSYS, 0, 0")), 0, ""),
    case("rseq_if_asked_for", concat!("$RUN --rseq -- ", ask_for_rseq!("EINVAL, 28, 384")), 0, ""),
    // Limits on the sandbox as a whole.
    case(
        "more_processes_than_allowed_is_eagain",
        "$LAZARET run --pids 8 -- /usr/bin/env python3 -c 'if 1:
            import os, time
            children = 0
            try:
                while children < 20:
                    if os.fork() == 0: time.sleep(60)
                    children += 1
            except BlockingIOError:
                pass
            assert children == 7, children
            assert open(\"/proc/sys/kernel/threads-max\").read() == \"8\\n\"'",
        0,
        "",
    ),
    case(
        "more_open_files_than_allowed_is_enfile",
        "$LAZARET run --files 400 -- /usr/bin/env python3 -c 'if 1:
            files = []
            try:
                while len(files) < 500: files.append(open(\"/etc/passwd\"))
            except OSError as error:
                assert error.errno == 23, error
            assert 100 < len(files) < 400, len(files)
            files.clear()
            assert open(\"/proc/sys/fs/file-nr\").read().split()[2] == \"400\"'",
        0,
        "",
    ),
    case(
        "more_files_in_memory_than_allowed_is_enospc",
        "$LAZARET run --disk 8M --tmpfs /data -- sh -c '
            head -c 5M /dev/zero > /var/a && head -c 2M /dev/zero > /data/a || exit 1
            head -c 2M /dev/zero > /data/b && exit 2
            rm /var/a /data/b && head -c 5M /dev/zero > /data/b' 2> said; code=$?
         grep -q 'No space left' said && exit $code",
        0,
        "",
    ),
    case(
        "more_processor_time_than_allowed_is_137",
        "$LAZARET run --cpu-time 0.3 -- sh -c 'while :; do :; done & while :; do :; done'",
        137,
        "processor time",
    ),
    case("sleeping_takes_no_processor_time", "$LAZARET run --cpu-time 0.5 -- sleep 0.8", 0, ""),
    case("no_such_limit", "$LAZARET run --pids 0 -- true", 125, "--pids"),
    // Host processes that run guest code are killed.
    case(
        "a_killed_host_process_is_a_kill_inside_on_systrap",
        concat!(
            "RUN=\"$LAZARET run --platform systrap --jail landlock\" python3 ",
            env!("CARGO_MANIFEST_DIR"),
            "/e2e/kill_stubs.py"
        ),
        0,
        "",
    ),
    case(
        "a_killed_host_process_is_a_kill_inside_on_ptrace",
        concat!(
            "RUN=\"$LAZARET run --platform ptrace --jail landlock\" python3 ",
            env!("CARGO_MANIFEST_DIR"),
            "/e2e/kill_stubs.py"
        ),
        0,
        "",
    ),
    // The launcher stops.
    case(
        "ctrl_z_stops_and_fg_goes_on",
        concat!("python3 ", env!("CARGO_MANIFEST_DIR"), "/e2e/suspend.py"),
        0,
        "",
    ),
    case(
        "sigtstp_stops_the_launcher_with_its_command",
        "$LAZARET run -- sh -c 'sleep 0.5; exit 7' & sleep 0.2; kill -TSTP $!; sleep 1; \
         grep -q 'State:.T' /proc/$!/status && kill -CONT $! && wait $!",
        7,
        "",
    ),
    // Memory that is asked for at once, and memory that is touched.
    case(
        "more_memory_than_there_is_is_refused",
        "$LAZARET run --memory 64M -- sh -c 'python3 -c \"bytearray(1 << 40)\" 2>&1 | tail -n 1 >&2'",
        0,
        "MemoryError",
    ),
    case(
        "full_pipes_count_as_memory_of_who_holds_them",
        "$LAZARET run --memory 256M -- sh -c 'exec 2>/dev/null
             perl -e '\\''while (pipe my $r, my $w) {
                 push @all, $r, $w; fcntl($w, 1031, 1 << 20); fcntl($w, 4, 2049); 1 while syswrite $w, \"x\" x 65536;
             } sleep 9'\\''; test $? = 137 && echo alive' | grep -x alive",
        0,
        "out of memory",
    ),
    case(
        "names_and_links_in_memory_end_with_enospc",
        "$LAZARET run --memory 192M -- perl -e '
             $n = 0; $n++ while symlink \"a\" x 4000, \"/tmp/$n\"; die \"$n $!\" unless $!{ENOSPC} && $n > 1000'",
        0,
        "",
    ),
    case(
        "touching_more_than_the_memory_limit_is_137",
        "$LAZARET run --memory 64M -- /usr/bin/env python3 -c 'import mmap; m = mmap.mmap(-1, 200 << 20); [m.__setitem__(at, 1) for at in range(0, 200 << 20, 4096)]'",
        137,
        "out of memory",
    ),
    case("bad_memory_size_is_125", "$LAZARET run --memory lots -- true", 125, "lots"),
    // Bad command lines.
    case("unknown_option_is_125", "$LAZARET run --nope -- true", 125, "--nope"),
    case("unknown_subcommand_is_125", "$LAZARET fly", 125, "fly"),
    case("missing_command_is_125", "$LAZARET run", 125, "required"),
    case("unknown_platform_is_125", "$LAZARET run --platform abacus -- true", 125, "abacus"),
    case("bad_time_limit_is_125", "$LAZARET run --time-limit soon -- true", 125, "soon"),
    case("missing_cwd_is_125", "$LAZARET run --cwd /missing-dir -- true", 125, "/missing-dir"),
    case("cwd_that_is_a_file_is_125", "$LAZARET run --cwd /etc/passwd -- true", 125, "/etc/passwd"),
    case(
        "missing_bind_source_is_125",
        "$LAZARET run --bind /missing-src -- true",
        125,
        "/missing-src",
    ),
    case(
        "missing_rootfs_is_125",
        "$LAZARET run --rootfs /missing-root -- true",
        125,
        "/missing-root",
    ),
    case("rootfs_that_is_a_file_is_125", "$LAZARET run --rootfs ./file -- true", 125, "file"),
    case("bad_user_is_125", "$LAZARET run --user no:body -- true", 125, "--user"),
    // Commands that cannot be run.
    case("command_not_found_is_127", "$LAZARET run -- missing-command", 127, "missing-command"),
    case("path_not_found_is_127", "$LAZARET run -- /missing/command", 127, "/missing/command"),
    case("empty_command_is_127", "$LAZARET run -- ''", 127, "not found"),
    case("not_executable_is_126", "$LAZARET run -- ./file", 126, "file"),
    case("directory_is_126", "$LAZARET run -- /etc", 126, "/etc"),
    case("empty_program_is_126", "$LAZARET run -- ./empty", 126, "empty"),
    case("truncated_elf_is_126", "$LAZARET run -- ./truncated", 126, "truncated"),
    case("elf_without_its_segments_is_126", "$LAZARET run -- ./headless", 126, "incomplete"),
    case(
        "elf_without_its_segments_dies_of_sigsegv_inside",
        "$LAZARET run -- sh -c './headless; exit $?' 2>/dev/null",
        139,
        "",
    ),
    case("corrupt_elf_is_126", "$LAZARET run -- ./corrupt", 126, "corrupt"),
    case("missing_interpreter_is_127", "$LAZARET run -- ./script", 127, "interpreter"),
    // Odd surroundings.
    case("closed_stdin", "$LAZARET run -- true <&-", 0, ""),
    case(
        "closed_stdin_is_closed_or_empty_inside",
        "$LAZARET run -- cat <&- >/dev/null 2>&1; exit 0",
        0,
        "",
    ),
    case("closed_stdout", "$LAZARET run -- true >&-", 0, ""),
    case("all_streams_closed", "$LAZARET run -- true <&- >&- 2>&-", 0, ""),
    case(
        "reader_of_stdout_dies",
        "{ $LAZARET run -- yes; echo $? > code; } | head -1 > /dev/null; exit $(cat code)",
        141,
        "",
    ),
    case("stdin_is_passed_on", "seq 1 100000 | $LAZARET run -- wc -l | grep -qx 100000", 0, ""),
    case(
        "large_output_is_complete",
        "test $($LAZARET run -- seq 1 200000 | wc -l) = 200000",
        0,
        "",
    ),
    case(
        "stderr_stays_apart",
        "$LAZARET run -- sh -c 'echo out; echo err >&2' 2>/dev/null | grep -qx out",
        0,
        "",
    ),
    case(
        "many_arguments_arrive",
        "test $($LAZARET run -- sh -c 'echo $#' x $(seq 1 20000)) = 20000",
        0,
        "",
    ),
    case("working_directory_is_kept", "test $($LAZARET run -- cat file) = text", 0, ""),
    case(
        "changes_stay_inside",
        "$LAZARET run -- sh -c 'echo new > made; rm file'; test ! -e made -a -e file",
        0,
        "",
    ),
    case(
        "bind_changes_the_host",
        "$LAZARET run --bind . -- sh -c 'echo new > made'; grep -qx new made",
        0,
        "",
    ),
    case(
        "ro_bind_is_read_only",
        "$LAZARET run --ro-bind . -- sh -c 'echo new > made' 2>/dev/null; test ! -e made",
        0,
        "",
    ),
    case("tmpfs_is_empty", "test -z \"$($LAZARET run --tmpfs /etc -- ls -A /etc)\"", 0, ""),
    case(
        "environment_options",
        "$LAZARET run --clearenv -e A=1 -- /usr/bin/env | grep -qx A=1",
        0,
        "",
    ),
    case(
        "the_host_name_is_the_one_of_the_hosts_etc_hosts",
        "test $($LAZARET run -- uname -n) = $(uname -n)",
        0,
        "",
    ),
    case(
        "a_root_of_its_own_has_a_host_name_of_its_own",
        "test $($LAZARET run --rootfs / -- uname -n) = lazaret",
        0,
        "",
    ),
    case("hostname_option", "test $($LAZARET run --hostname box -- uname -n) = box", 0, ""),
    case(
        "children_of_the_command_end_with_it",
        "$LAZARET run -- sh -c 'sleep 600 & exit 3'",
        3,
        "",
    ),
    // Signals to the launcher.
    case(
        "sigterm_reaches_the_command",
        "$LAZARET run -- sh -c 'trap \"exit 9\" TERM; touch /dev/null; while :; do sleep 0.05; done' & p=$!; sleep 1; kill -TERM $p; wait $p",
        9,
        "",
    ),
    case(
        "sigint_ends_the_command",
        "$LAZARET run -- sleep 600 & p=$!; sleep 1; kill -TERM $p; wait $p",
        143,
        "",
    ),
    case(
        "sigkill_of_the_launcher_ends_everything",
        "$LAZARET run -- sleep 600 & p=$!; sleep 1; kill -KILL $p; wait $p 2>/dev/null",
        137,
        "",
    ),
];

/// The files which the cases name, in the directory they run in.
fn prepare(directory: &Path) -> std::io::Result<()> {
    let write = |name: &str, bytes: &[u8], mode| {
        let path = directory.join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    let program = fs::read("/bin/true")?;
    let mut corrupt = program.clone();
    // The program headers' place in the file: nowhere.
    if let Some(offset) = corrupt.get_mut(32..40) {
        offset.fill(0xff);
    }
    write("file", b"text\n", 0o644)?;
    write("empty", b"", 0o755)?;
    write("truncated", program.get(..40).unwrap_or_default(), 0o755)?;
    write("headless", program.get(..1000).unwrap_or_default(), 0o755)?;
    write("corrupt", &corrupt, 0o755)?;
    write("script", b"#!/missing-interpreter\n", 0o755)
}

/// The processes that carry the mark.
fn marked(mark: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        let wanted = format!("{MARK}={mark}");
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            found.push(format!("{} {}", path.display(), name.trim_end()));
        }
    }
    found
}

fn check(case: &Case, platform: &str) -> Result<(), Failed> {
    let scratch = Scratch::new(workplace(env!("CARGO_TARGET_TMPDIR")))?;
    prepare(scratch.path())?;
    let mark = scratch.path().as_os_str().to_owned();
    let finished = run(case, platform, scratch.path(), &mark)?;
    if finished.code() != Some(case.code) {
        return Err(format!("want exit status {}: {}", case.code, finished.describe()).into());
    }
    let stderr = finished.stderr.trim_end();
    if case.says.is_empty() {
        if !stderr.is_empty() {
            return Err(format!("want silence: {stderr}").into());
        }
    } else {
        let mut lines = stderr.lines();
        let first = lines.next().unwrap_or_default();
        if !first.contains(case.says) {
            return Err(format!("does not say {:?}: {stderr}", case.says).into());
        }
        if lines.next().is_some() {
            return Err(format!("says more than one line: {stderr}").into());
        }
    }
    Ok(())
}

fn run(case: &Case, platform: &str, directory: &Path, mark: &OsString) -> Result<Finished, Failed> {
    let mut command = Command::new("bash");
    command
        .args(["-c", case.script])
        .current_dir(directory)
        .env("LAZARET", lazaret::binary()?)
        .env("RUN", format!("{} run --platform {platform}", lazaret::binary()?.display()))
        .env(MARK, mark)
        .stdin(std::process::Stdio::null());
    let mark = mark.to_string_lossy();
    let mut left = Vec::new();
    let finished = process::run_and_look(&mut command, LIMIT, || {
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        left = marked(&mark);
        while !left.is_empty() && waited < GRACE {
            thread::sleep(step);
            waited += step;
            left = marked(&mark);
        }
    })?;
    if left.is_empty() { Ok(finished) } else { Err(format!("left behind: {left:?}").into()) }
}

/// One test for each case; those of profiles on each platform.
pub(crate) fn trials() -> impl Iterator<Item = Trial> {
    let trial = |name: String, case: &'static Case, platform: &'static str| {
        Trial::test(name, move || steady(case.name, || check(case, platform)))
    };
    let plain = CASES.iter().chain(crate::jail::CASES);
    let plain = plain.map(move |case| trial(format!("cli::{}", case.name), case, "auto"));
    let each = platforms().iter().flat_map(move |platform| {
        let families =
            [("profiles", crate::profiles::CASES), ("file_rules", crate::file_rules::CASES)];
        families.into_iter().flat_map(move |(family, cases)| {
            let name = move |case: &Case| format!("{platform}::{family}::{}", case.name);
            cases.iter().map(move |case| trial(name(case), case, platform))
        })
    });
    plain.chain(each)
}
