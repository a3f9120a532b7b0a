//! The jail round the application kernel: what is chosen on which host, what is refused, and what the processes
//! are left with.

use crate::command_line::{Case, case};

/// A script for a host that lacks something (`deny.py`).
macro_rules! without {
    ($what:literal, $script:literal) => {
        concat!(
            "deny='python3 ",
            env!("CARGO_MANIFEST_DIR"),
            "/e2e/deny.py ",
            $what,
            "'; ",
            $script
        )
    };
}

/// A script, run as the superuser of a user namespace in which there can be no further ones; where there are no such
/// namespaces at all, nothing is run. `unshare -p`: what it leaves behind would end with it.
macro_rules! without_further_user_namespaces {
    ($options:literal, $script:literal) => {
        concat!(
            "unshare -Urmpf true 2>/dev/null || exit 0; export LAZARET; ",
            "unshare ",
            $options,
            " --fork --mount-proc bash -c 'echo 0 > /proc/sys/user/max_user_namespaces; ",
            $script,
            "'"
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    // Who the command is.
    case(
        "the_superuser_inside_has_the_callers_bounding_set",
        "unshare -Ur true 2>/dev/null || exit 0; export LAZARET
         cat > caps <<'END'
         show() { grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status; }
         show > outside; $LAZARET run -- grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status > inside
         cat inside; cmp outside inside
END
         unshare -Ur setpriv --bounding-set -all,+chown,+kill sh caps | grep -q 'CapEff:.0000000000000021$' &&
         unshare -Ur setpriv --bounding-set -all sh caps | grep -q 'CapEff:.0000000000000000$' &&
         unshare -Ur sh caps && unshare -Ur setpriv --bounding-set -all $LAZARET run --user 0 -- chown 1:1 /tmp",
        0,
        "",
    ),
    // Nothing is to be seen where no control group is delegated.
    case(
        "a_delegated_control_group_holds_all_processes_and_goes_with_them",
        "$LAZARET doctor | grep -q '^ok  control group' || exit 0
         $LAZARET run --memory 512M --pids 50 -- sleep 2 & launcher=$!; sleep 1
         group=$(find /sys/fs/cgroup -name lazaret-$launcher)
         [ $(wc -l < $group/cgroup.procs) -ge 4 ] && ! grep -q max $group/memory.max $group/pids.max || exit 1
         wait $launcher && [ ! -e $group ]",
        0,
        "",
    ),
    // By calls of the file server that few programs want.
    case(
        "a_shared_tree_takes_all_kinds_of_changes",
        "mkdir tree; cat > change <<'END'
import fcntl, os, termios
os.mkfifo('fifo'); os.mknod('plain', 0o100640); os.mkdir('d')
if os.getuid() == 0: os.chown('d', 0, 5)
os.chmod('d', 0o2775); os.umask(0)
file = os.open('d/file', os.O_CREAT | os.O_RDWR, 0o2770)
os.write(file, b'text'); os.fdatasync(file); os.fsync(file)
os.link('d/file', 'd/kept'); os.symlink('d', 'link'); os.rename('plain', 'new'); os.truncate('d/file', 3)
os.utime('d/file', (1, 2)); os.chown('d/kept', os.getuid(), os.getgid())
directory = os.open('d', os.O_RDONLY); os.fsync(directory); os.fdatasync(directory)
fcntl.ioctl(0, termios.FIONREAD, bytes(4))
os.setxattr('d/file', 'user.a', b'v'); os.listxattr('d/file'); os.removexattr('d/file', 'user.a')
for n in range(20000): os.sched_yield()
if os.getuid() == 0: os.chmod('.', 0o777); os.setresuid(1, 1, 1); os.open('given', os.O_CREAT | os.O_RDWR, 0o4755)
END
         mv change tree; echo input | $LAZARET run --bind $PWD/tree --cwd $PWD/tree -- python3 change &&
         [ -p tree/fifo ] && [ -f tree/new ] && [ -f tree/link/kept ] && [ $(cat tree/d/file) = tex ] &&
         { [ $(id -u) != 0 ] || [ \"$(stat -c '%u %a' tree/given)\" = '1 4755' ]; }",
        0,
        "",
    ),
    // What is chosen.
    case("landlock_alone_is_a_jail", "$LAZARET run --jail landlock -- true", 0, ""),
    case(
        "namespaces_are_used_where_there_are_some",
        "$LAZARET doctor | grep -q '^ok  namespaces' || exit 0
         $LAZARET run --log log --log-level debug -- true && grep -q 'jail=namespaces' log &&
         $LAZARET run --jail namespaces -- true",
        0,
        "",
    ),
    case(
        "without_namespaces_landlock_is_used",
        without!("namespaces", "$deny $LAZARET run --log log --log-level debug -- true && grep -q 'jail=Landlock' log"),
        0,
        "",
    ),
    case(
        "without_namespaces_the_ptrace_platform_works",
        without!("namespaces", "$deny $LAZARET run --platform ptrace -- bash -c 'echo $(seq 3 | wc -l)' | grep -qx 3"),
        0,
        "",
    ),
    case(
        "without_landlock_namespaces_are_used",
        without!(
            "landlock",
            "$LAZARET doctor | grep -q '^ok  namespaces' || exit 0
             $deny $LAZARET run --log log --log-level debug -- true && grep -q 'jail=namespaces' log"
        ),
        0,
        "",
    ),
    case(
        "doctor_names_the_jail",
        without!(
            "namespaces",
            "$deny $LAZARET doctor | grep -q '^ok  jail .*Landlock' &&
             $LAZARET doctor | grep -qE '^ok  jail .*(Landlock|namespaces)'"
        ),
        0,
        "",
    ),
    // What is refused.
    case(
        "namespaces_are_insisted_on",
        without!("namespaces", "$deny $LAZARET run --jail namespaces -- true"),
        125,
        "--jail namespaces",
    ),
    case(
        "landlock_is_insisted_on",
        without!("landlock", "$deny $LAZARET run --jail landlock -- true"),
        125,
        "--jail landlock",
    ),
    case(
        "allow_weak_jail_is_not_for_a_jail_that_was_asked_for",
        without!("landlock", "$deny $LAZARET run --jail landlock --allow-weak-jail -- true"),
        125,
        "--jail landlock",
    ),
    case(
        "no_jail_is_refused",
        without!("namespaces,landlock", "$deny $LAZARET run -- true"),
        125,
        "--allow-weak-jail",
    ),
    case(
        "no_jail_is_allowed_when_asked_for",
        without!("namespaces,landlock", "$deny $LAZARET run --allow-weak-jail -- sh -c 'exit 7'"),
        7,
        "",
    ),
    // Who starts it.
    case(
        "the_superuser_needs_no_user_namespaces",
        without_further_user_namespaces!("-Urmp", "$LAZARET run --jail namespaces -- true"),
        0,
        "",
    ),
    case(
        "mounts_of_the_host_stay_as_they_are",
        without_further_user_namespaces!(
            "-Urmp",
            "before=$(cat /proc/self/mountinfo); $LAZARET run -- true || exit 1
             test \"$before\" = \"$(cat /proc/self/mountinfo)\" -a -d /usr/bin"
        ),
        0,
        "",
    ),
    case(
        "neither_capabilities_nor_user_namespaces",
        without_further_user_namespaces!(
            "-Urmp",
            "exec setpriv --no-new-privs --bounding-set -all --inh-caps -all $LAZARET run -- sh -c \"ls / | grep -qx usr\""
        ),
        0,
        "",
    ),
    case(
        "dockers_default_profile_without_capabilities",
        without!(
            "docker",
            "for platform in systrap ptrace; do
                 setpriv --no-new-privs --bounding-set -all --inh-caps -all $deny $LAZARET run --platform $platform -- bash -c '
                     cat <(seq 5 | sort -r) | head -1; perl -e \"print 6\"; (sleep 0.1 & wait)' > out || exit 1
                 test \"$(tr -d '\\n' < out)\" = 56 || exit 2
             done"
        ),
        0,
        "",
    ),
    // The file server's memory grows and shrinks, which makes its allocator ask the host.
    case(
        "long_listings_by_someone_who_may_nothing",
        without_further_user_namespaces!(
            "-Urmp",
            "exec setpriv --no-new-privs --bounding-set -all --inh-caps -all $LAZARET run -- bash -c \"
             for i in 1 2 3 4 5 6; do ls -laR /etc; find /usr/include /usr/share/doc -newer /etc/passwd; done > /dev/null 2>&1; exit 0\""
        ),
        0,
        "",
    ),
    case(
        "a_directory_that_the_host_does_not_let_us_read_cannot_be_opened",
        without_further_user_namespaces!(
            "-Urmp",
            "mkdir -m 0 closed && exec setpriv --no-new-privs --bounding-set -all --inh-caps -all $LAZARET run -- bash -c \"
             ls closed 2>&1 | grep -q cannot.open\""
        ),
        0,
        "",
    ),
    case(
        "the_file_servers_death_is_told",
        "$LAZARET run -- sh -c 'while :; do ls /proc; done > /dev/null' & launcher=$!
         sleep 1
         for process in $(cat /proc/$launcher/task/$launcher/children); do
             tr '\\0' ' ' < /proc/$process/cmdline | grep -q internal-gofer && kill -SYS $process
         done
         wait $launcher",
        125,
        "file server was killed by its seccomp filter",
    ),
    // What the processes have.
    case(
        "nothing_of_the_launcher_is_passed_on",
        "exec 50< /etc/passwd 51> leaked; SECRET=1 $LAZARET run -- sleep 60 & launcher=$!
         sleep 1; bad=0; children=$(cat /proc/$launcher/task/$launcher/children)
         test $(echo $children | wc -w) = 2 || bad=1
         for process in $children; do
             ls -l /proc/$process/fd 2> /dev/null | grep -q 'passwd\\|leaked' && bad=2
             tr '\\0' '\\n' < /proc/$process/environ 2> /dev/null | grep -q . && bad=3
             grep -q 'Max core file size  *0  *0' /proc/$process/limits || bad=4
             grep -q 'NoNewPrivs:.1' /proc/$process/status || bad=5
             grep -q 'Seccomp:.2' /proc/$process/status || bad=6
         done 2> said
         kill -TERM $launcher; wait $launcher; cat said >&2; exit $bad",
        0,
        "",
    ),
    case(
        "a_sentry_that_breaks_its_filter_is_named",
        "$LAZARET run --jail landlock -- sleep 60 & launcher=$!; sleep 1
         for process in $(cat /proc/$launcher/task/$launcher/children); do
             grep -q internal-sentry /proc/$process/cmdline && kill -SYS $process
         done; wait $launcher",
        125,
        "the application kernel was killed by its seccomp filter (SIGSYS)",
    ),
    case(
        "a_gofer_that_breaks_its_filter_is_named",
        "$LAZARET run --jail landlock -- sleep 60 & launcher=$!; sleep 1
         for process in $(cat /proc/$launcher/task/$launcher/children); do
             grep -q internal-gofer /proc/$process/cmdline && kill -SYS $process
         done; wait $launcher",
        125,
        "the file server was killed by its seccomp filter (SIGSYS)",
    ),
];
