//! Rules for files in profiles: what they deny, that nothing leads round them, and how they are told.

use crate::command_line::{Case, case};

/// A home directory with secrets, the rules as `p.toml`, and `t.py` for `python3 -c 'from t import *; …'`, where
/// `expect(ERRNO, call, …)` says what a call must end with (`""`: well).
macro_rules! with_rules {
    ($rules:literal, $script:literal) => {
        concat!(
            "mkdir -p home/.ssh home/.config/git home/.config/other home/wares/sub
             for name in .ssh/id .config/git/config .config/other/f wares/.env wares/sub/.env wares/open readonly; do
                 echo \"secret $name\" > home/$name; done
             ln -s .ssh home/link
             printf '[files]\\nrules = [",
            $rules,
            "]\\n' > p.toml
             export HOME=$PWD/home
             cat > t.py <<'END'
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(os.environ['HOME'])
def call(name, *args):
    if getattr(libc, name)(*args) == -1: raise OSError(ctypes.get_errno(), name)
def expect(want, do, *args, **named):
    try: do(*args, **named); got = ''
    except OSError as error: got = errno.errorcode[error.errno]
    if got != want: sys.exit(f'{do.__name__}{args}: {got or \"done\"}, not {want or \"done\"}')
END
             ",
            $script
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    case(
        "a_rule_with_an_unknown_word_names_line_and_nearest",
        "printf '[files]\\nrules = [\\n\"dney ~/x\"]\\n' > p.toml; $RUN --profile ./p.toml -- true",
        125,
        "./p.toml:3: `dney ~/x`: did you mean deny?",
    ),
    case(
        "a_denied_file_is_eacces_and_the_line_names_the_rule",
        with_rules!(
            "\"deny ~/.ssh\"",
            "$RUN --profile ./p.toml -- cat home/.ssh/id 2> said; test $? = 1 || exit 2
             grep -c . said | grep -qx 2; grep -q 'Permission denied' said
             grep -q 'op=\"read\" path=[^ ]*/home/.ssh/id rule=\"./p.toml:2: deny ~/.ssh\" comm=cat pid=1$' said"
        ),
        0,
        "",
    ),
    case(
        "a_hidden_name_is_not_there_and_not_listed",
        with_rules!(
            "\"hide ~/.ssh\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
assert sorted(os.listdir(\".\")) == [\".config\", \"link\", \"readonly\", \"wares\"], os.listdir(\".\")
for name in \".ssh\", \".ssh/id\", \".ssh/none\", \".ssh/id/x\", \".ssh/..\", \"link/id\", \"link/\":
    expect(\"ENOENT\", os.stat, name)
    expect(\"ENOENT\", open, name)
expect(\"\", os.lstat, \"link\")
expect(\"ENOENT\", os.chdir, \".ssh\")
expect(\"ENOENT\", os.rename, \".ssh\", \"s\")
expect(\"ENOENT\", os.unlink, \".ssh/id\")
expect(\"ENOENT\", os.rmdir, \".ssh\")
expect(\"EACCES\", os.mkdir, \".ssh\")
expect(\"EACCES\", os.symlink, \"x\", \".ssh\")
expect(\"EACCES\", os.rename, \"wares\", \".ssh\")
expect(\"EACCES\", os.open, \".ssh\", os.O_CREAT | os.O_WRONLY)
expect(\"EACCES\", os.link, \"readonly\", \".ssh\")
expect(\"ENOENT\", os.mkdir, \".ssh/d\")' 2> said || { cat said >&2; exit 1; }
             grep -q 'op=\"find\" path=[^ ]*/home/.ssh rule=\"./p.toml:2: hide ~/.ssh\" comm=python3 pid=1' said"
        ),
        0,
        "",
    ),
    case(
        "the_last_rule_that_matches_decides",
        with_rules!(
            "\"hide ~/.config/**\", \"allow ~/.config/git\", \"deny ~/wares\", \"allow ~/wares/sub\", \"deny **/.env\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
assert os.listdir(\".config\") == [\"git\"]
expect(\"\", open, \".config/git/config\")
expect(\"\", open, \".config/git/new\", \"w\")
expect(\"ENOENT\", open, \".config/other/f\")
expect(\"EACCES\", open, \"wares/open\")
expect(\"EACCES\", os.listdir, \"wares\")
expect(\"\", os.stat, \"wares\")
expect(\"\", open, \"wares/sub/new\", \"w\")
expect(\"EACCES\", open, \"wares/sub/.env\")' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "rules_hold_for_files_that_are_made_later",
        with_rules!(
            "\"deny read ~/**/*.key\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
os.mkdir(\"new\")
open(\"new/a.key\", \"w\").write(\"x\")
expect(\"EACCES\", open, \"new/a.key\")
expect(\"EACCES\", os.rename, \"new/a.key\", \"new/a.txt\")
expect(\"EACCES\", os.link, \"new/a.key\", \"new/a.txt\")
os.rename(\"new\", \"newer\")
expect(\"EACCES\", open, \"newer/a.key\")
expect(\"EXDEV\", os.rename, \"newer\", \"/tmp/../\" + os.getcwd() + \"/../new\")
os.unlink(\"newer/a.key\")' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "each_kind_of_access_is_denied_by_itself",
        with_rules!(
            "\"deny write ~/readonly\", \"deny list ~/wares\", \"deny create ~/.config\", \"deny delete ~/.ssh\", \"deny exec ~/bin\", \"deny stat ~/link\"",
            "mkdir home/bin; cp /bin/true home/bin/true; printf '#!%s/bin/true\\n' $HOME > home/script; chmod +x home/script
             $RUN --profile ./p.toml -- python3 -c 'from t import *
expect(\"\", open, \"readonly\")
for mode in \"w\", \"r+\", \"a\": expect(\"EACCES\", open, \"readonly\", mode)
expect(\"EACCES\", os.truncate, \"readonly\", 0)
expect(\"EACCES\", os.chmod, \"readonly\", 0o600)
expect(\"EACCES\", os.utime, \"readonly\")
expect(\"EACCES\", os.chown, \"readonly\", -1, -1)
expect(\"EACCES\", os.setxattr, \"readonly\", \"user.x\", b\"\")
expect(\"EACCES\", os.removexattr, \"readonly\", \"user.x\")
fd = os.open(\"readonly\", os.O_RDONLY)
expect(\"EACCES\", os.fchmod, fd, 0o600)
expect(\"EACCES\", open, f\"/proc/self/fd/{fd}\", \"w\")
assert not os.access(\"readonly\", os.W_OK) and os.access(\"readonly\", os.R_OK)
expect(\"EACCES\", os.listdir, \"wares\")
expect(\"\", open, \"wares/open\")
expect(\"EACCES\", call, \"inotify_add_watch\", libc.inotify_init(), b\"wares\", 2)
expect(\"EACCES\", open, \".config/new\", \"w\")
expect(\"EACCES\", os.mkdir, \".config/new\")
expect(\"EACCES\", os.mkfifo, \".config/new\")
expect(\"EACCES\", os.symlink, \"x\", \".config/new\")
expect(\"EACCES\", os.link, \"readonly\", \".config/new\")
expect(\"EACCES\", os.rename, \"wares/open\", \".config/new\")
expect(\"EACCES\", socket.socket(socket.AF_UNIX).bind, \".config/new\")
expect(\"EACCES\", os.open, \".config\", os.O_TMPFILE | os.O_WRONLY)
expect(\"\", open, \".config/git/config\", \"w\")
expect(\"EACCES\", os.unlink, \".ssh/id\")
expect(\"EACCES\", os.rename, \".ssh/id\", \".ssh/id2\")
expect(\"EACCES\", os.rename, \"wares/open\", \".ssh/id\")
expect(\"\", open, \".ssh/id\", \"w\")
expect(\"EACCES\", os.execv, \"bin/true\", [\"true\"])
expect(\"EACCES\", os.execv, \"script\", [\"script\"])
expect(\"EACCES\", os.execve, os.open(\"bin/true\", os.O_RDONLY), [\"true\"], {})
expect(\"EACCES\", os.lstat, \"link\")
expect(\"EACCES\", os.open, \"link\", os.O_PATH | os.O_NOFOLLOW)
expect(\"\", os.listdir, \"link\")' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "no_other_name_leads_round_a_rule",
        with_rules!(
            "\"deny read,write ~/wares/sub\", \"deny read ~/link\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
expect(\"EACCES\", open, \".ssh/id\")
os.symlink(\"wares/sub/.env\", \"elsewhere\")
expect(\"EACCES\", open, \"elsewhere\")
fd = os.open(\"wares/sub/.env\", os.O_PATH)
expect(\"EACCES\", open, f\"/proc/self/fd/{fd}\")
directory = os.open(\"wares/sub\", os.O_PATH)
expect(\"EACCES\", os.open, \".env\", os.O_RDONLY, dir_fd=directory)
expect(\"EACCES\", os.open, f\"/proc/self/fd/{directory}/.env\", os.O_RDONLY)
os.chdir(\"wares/sub\")
expect(\"EACCES\", open, \"/proc/self/cwd/.env\")
os.chdir(\"../..\")
expect(\"EACCES\", os.link, \"wares/sub/.env\", \"hard\")
expect(\"EACCES\", os.rename, \"wares/sub\", \"moved\")
expect(\"EXDEV\", os.rename, \"wares\", \"moved\")
expect(\"EXDEV\", call, \"renameat2\", -100, b\"wares\", -100, b\".config\", 2)
os.mkdir(\"fresh\"); os.rename(\"fresh\", \"fresher\")
if os.geteuid() == 0:
    os.mkdir(\"/tmp/m\"); os.mkdir(\"/tmp/p\")
    call(\"unshare\", 0x20000)
    call(\"mount\", os.fsencode(os.path.abspath(\"wares\")), b\"/tmp/m\", None, 4096, None)
    expect(\"\", open, \"/tmp/m/open\")
    expect(\"EACCES\", open, \"/tmp/m/sub/.env\")
    call(\"mount\", b\"none\", os.fsencode(os.path.abspath(\"wares/sub\")), b\"tmpfs\", 0, None)
    open(\"/tmp/x\", \"w\")
    expect(\"\", open, \"wares/sub/made\", \"x\")
    expect(\"EACCES\", open, \"wares/sub/made\")
    os.chroot(\"/tmp/m\")
    expect(\"EACCES\", open, \"/sub/.env\")' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "file_systems_of_the_kernel_keep_their_rules_when_mounted_again",
        with_rules!(
            "\"deny /proc/version\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
expect(\"EACCES\", open, \"/proc/version\")
if os.geteuid() == 0:
    os.mkdir(\"/tmp/p\")
    call(\"mount\", b\"proc\", b\"/tmp/p\", b\"proc\", 0, None)
    expect(\"\", open, \"/tmp/p/meminfo\")
    expect(\"EACCES\", open, \"/tmp/p/version\")' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "unix_sockets_are_connected_to_only_where_writing_is_allowed",
        with_rules!(
            "\"deny write ~/wares/*.sock\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
for name, want in (\"wares/a.sock\", \"EACCES\"), (\"wares/b\", \"\"):
    server = socket.socket(socket.AF_UNIX); server.bind(name); server.listen()
    expect(want, socket.socket(socket.AF_UNIX).connect, name)' 2> said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "a_program_that_must_not_be_executed_is_not_the_command_either",
        "printf '[files]\\nrules = [\"deny exec **/true\"]\\n' > p.toml; $RUN --profile ./p.toml -- true 2> said
         test $? = 126 && grep -qx 'lazaret: true: Permission denied' said",
        0,
        "",
    ),
    case(
        "the_same_denial_is_told_once_and_the_rest_counted",
        with_rules!(
            "\"deny ~/.ssh\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
for _ in range(1000): expect(\"EACCES\", open, \".ssh/id\")' 2> said || { cat said >&2; exit 1; }
             test $(grep -c rule= said) = 1 && grep -q 'more denials left_out=999' said || { cat said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "different_denials_are_not_told_without_end",
        with_rules!(
            "\"deny ~/.ssh\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
for n in range(3000): expect(\"EACCES\", open, f\".ssh/{n}\", \"w\")' 2> said || { tail said >&2; exit 1; }
             n=$(grep -c rule= said); test $n -ge 200 -a $n -le 500 || { tail said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    case(
        "names_in_denials_cannot_forge_lines",
        with_rules!(
            "\"deny ~/.ssh\"",
            "$RUN --profile ./p.toml -- python3 -c 'from t import *
open(\"/proc/self/comm\", \"w\").write(\"a\\n\\x1b[1m\")
expect(\"EACCES\", open, b\".ssh/\\n2026 WARN denied \\x1b[1m\\xff\", \"w\")' 2> said
             test $(wc -l < said) = 1 && ! LC_ALL=C grep -q '[^ -~]' said || { cat -v said >&2; exit 1; }"
        ),
        0,
        "",
    ),
    // --audit.
    case(
        "an_audit_says_what_was_allowed_and_denied_and_why",
        with_rules!(
            "\"deny ~/.ssh\", \"allow read ~/.ssh/id\", \"deny write ~/readonly\"",
            "$RUN --profile ./p.toml --audit audit -- sh -c 'cat ~/.ssh/id; echo x >> ~/readonly; ls ~/wares; rm ~/wares/open' > /dev/null 2>&1
             python3 -c 'import json, os, time
home = os.environ[\"HOME\"]
lines = [json.loads(line) for line in open(\"audit\")]
assert all(list(line) == [\"time\", \"pid\", \"comm\", \"op\", \"path\", \"decision\", \"rule\"] for line in lines)
assert all(abs(line[\"time\"] - time.time()) < 60 for line in lines)
seen = {(line[\"comm\"], line[\"op\"], line[\"path\"].replace(home, \"~\"), line[\"decision\"], line[\"rule\"]) for line in lines}
for want in [(\"cat\", \"read\", \"~/.ssh/id\", \"allow\", \"./p.toml:2: allow read ~/.ssh/id\"),
             (\"sh\", \"write\", \"~/readonly\", \"deny\", \"./p.toml:2: deny write ~/readonly\"),
             (\"ls\", \"list\", \"~/wares\", \"allow\", None),
             (\"rm\", \"delete\", \"~/wares/open\", \"allow\", None)]:
    assert want in seen, (want, seen)
assert any(op == \"exec\" and path.endswith(\"/cat\") for _, op, path, _, _ in seen)'"
        ),
        0,
        "",
    ),
    case(
        "an_audit_needs_no_profile",
        "$RUN --audit audit -- cat file > said && grep -q '\"comm\":\"cat\",\"op\":\"read\",\"path\":\"[^\"]*/file\",\"decision\":\"allow\",\"rule\":null}$' audit",
        0,
        "",
    ),
    case(
        "an_audit_has_a_line_for_each_name_whatever_its_bytes",
        "$RUN --audit audit -- python3 -c 'if 1:
            import os
            os.chdir(\"/tmp\")
            for name in b\"\\n{}\", b\"\\xff\\xfe\", b\"\\\\xff\", b\"\\\"\", bytes(range(1, 47)), b\"d\" * 255: os.mkdir(name)
            for _ in range(60): os.mkdir(\"d\" * 200); os.chdir(\"d\" * 200)'
         python3 -c 'if 1:
            import json
            made = [json.loads(line)[\"path\"] for line in open(\"audit\") if \"create\" in line]
            assert made[:4] == [\"/tmp/\\n{}\", \"/tmp/\\\\xff\\\\xfe\", \"/tmp/\\\\\\\\xff\", \"/tmp/\\\"\"], made[:4]
            assert len(made) == 66 and max(map(len, made)) == 4096'",
        0,
        "",
    ),
    case(
        "an_audit_that_cannot_be_written_stops_nobody",
        "$RUN --audit /dev/full -- cat file || exit 1
         mkfifo gone full
         head -c 1 gone > /dev/null & $RUN --audit gone -- sh -c 'for i in 1 2 3; do cat file; done' || exit 2
         (exec 9<> full; $RUN --audit full -- python3 -c 'if 1:
            import os
            for _ in range(3000): os.stat(\"file\")'; timeout 5 head -c 65536 <&9 | tail -n +2 | head -n 5 | grep -q decision) || exit 3
         $RUN --audit none/audit -- true 2> said; test $? = 125 && grep -q 'audit file none/audit' said",
        0,
        "",
    ),
    case(
        "an_asked_for_log_level_goes_before_the_denials",
        with_rules!(
            "\"deny ~/.ssh\"",
            "$RUN --profile ./p.toml --log-level error -- cat home/.ssh/id 2> said; ! grep -q rule= said"
        ),
        0,
        "",
    ),
];
