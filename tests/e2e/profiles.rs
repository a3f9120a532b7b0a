//! Profiles: what they give, what they refuse, and how that is told.

use crate::command_line::{Case, case};

pub(crate) const CASES: &[Case] = &[
    // Files that are no profiles.
    case(
        "unknown_profile_names_the_nearest",
        "$RUN --profile bulid -- true",
        125,
        "no profile bulid; did you mean build?",
    ),
    case(
        "unknown_key_names_line_and_nearest",
        "printf '[limits]\\nmemroy = 1\\n' > p.toml; $RUN --profile ./p.toml -- true",
        125,
        "./p.toml:2: unknown key `memroy` in [limits]; did you mean `memory`?",
    ),
    case(
        "what_is_no_toml_names_the_line",
        "printf '\\n\\n[limits\\n' > p.toml; $RUN --profile ./p.toml -- true",
        125,
        "./p.toml:3: ",
    ),
    case(
        "networks_that_are_not_there_say_so",
        "echo 'network = \"host\"' > p.toml; $RUN --profile ./p.toml -- true",
        125,
        "no way out to the network yet",
    ),
    case(
        "profiles_are_listed_and_printed",
        "$LAZARET profiles > list && grep -q '^strict ' list && $LAZARET profiles build > text && grep -q '^bind = ' text",
        0,
        "",
    ),
    // Environment.
    case(
        "environment_of_a_profile",
        "printf '[env]\\nkeep = [\"K*\", \"PATH\"]\\ndrop = [\"K2\"]\\nset = { S = \"s\", K3 = \"set\" }\\n' > p.toml
         export K1=1 K2=2 K3=3 OTHER=4
         $RUN --profile ./p.toml -e O=o -e K1=option -- env | grep -v ^PATH= | sort | tr '\\n' ' ' > said
         grep -qx 'K1=option K3=set O=o S=s ' said || { cat said >&2; exit 1; }",
        0,
        "",
    ),
    case(
        "an_empty_list_of_kept_variables_keeps_none",
        "printf '[env]\\nkeep = []\\nset = { S = \"s\" }\\n' > p.toml
         export K1=1; test \"$($RUN --profile ./p.toml -- /usr/bin/env)\" = S=s",
        0,
        "",
    ),
    case(
        "clearenv_goes_before_what_a_profile_keeps",
        "printf '[env]\\nkeep = [\"*\"]\\nset = { S = \"s\" }\\n' > p.toml
         $RUN --profile ./p.toml --clearenv -- /usr/bin/env | grep -qx 'S=s'",
        0,
        "",
    ),
    case(
        "default_drops_secrets",
        "export GITHUB_TOKEN=t PLAIN=p; $RUN --profile default -- env > said
         grep -q PLAIN=p said && ! grep -q TOKEN said",
        0,
        "",
    ),
    // Limits.
    case(
        "limits_of_a_profile",
        "printf '[limits]\\npids = 77\\nfiles = 500\\nmemory = \"256M\"\\n' > p.toml
         $RUN --profile ./p.toml -- sh -c 'test $(cat /proc/sys/kernel/threads-max) = 77 &&
             test $(cut -f3 /proc/sys/fs/file-nr) = 500 && grep -q \"MemTotal: *262144 kB\" /proc/meminfo'",
        0,
        "",
    ),
    case(
        "options_go_before_limits_of_a_profile",
        "printf '[limits]\\npids = 77\\n' > p.toml
         test $($RUN --profile ./p.toml --pids 88 -- cat /proc/sys/kernel/threads-max) = 88",
        0,
        "",
    ),
    case(
        "time_limit_of_a_profile",
        "printf '[limits]\\ntime = 0.3\\n' > p.toml; $RUN --profile ./p.toml -- sleep 60",
        124,
        "time",
    ),
    case(
        "processor_time_of_a_profile",
        "printf '[limits]\\ncpu-time = 0.3\\n' > p.toml; $RUN --profile ./p.toml -- sh -c 'while :; do :; done'",
        137,
        "processor time",
    ),
    // Network.
    case(
        "without_a_network_there_are_no_internet_sockets",
        "$RUN --network none -- python3 -c 'if 1:
            import errno, socket
            socket.socket(socket.AF_UNIX)
            for family in socket.AF_INET, socket.AF_INET6:
                try: socket.socket(family)
                except OSError as error: assert error.errno == errno.EAFNOSUPPORT
                else: assert False'",
        0,
        "",
    ),
    case(
        "the_network_option_goes_before_the_profile",
        "echo 'network = \"none\"' > p.toml; $RUN --profile ./p.toml --network loopback -- python3 -c 'if 1:
            import socket
            server = socket.create_server((\"127.0.0.1\", 0))
            socket.create_connection(server.getsockname())'",
        0,
        "",
    ),
    // Mounts.
    case(
        "mounts_of_a_profile",
        "printf '[mounts]\\nbind = [\"$CWD\"]\\ntmpfs = [\"/etc\"]\\noverlay = \"none\"\\n' > p.toml
         $RUN --profile ./p.toml -- sh -c 'echo new > made; test -z \"$(ls -A /etc)\"; touch /var/x' 2> said
         grep -qx new made && grep -q 'Read-only' said",
        0,
        "",
    ),
    // The built-in ones, with real programs.
    case(
        "the_built_in_ones_protect_secrets",
        "secrets='.ssh/id_ed25519 .gnupg/pubring.kbx .aws/credentials .netrc .bash_history .mozilla/firefox/cookies .config/chromium/Cookies
             .kube/config .git-credentials .cargo/credentials.toml .docker/config.json .config/gh/hosts.yml'
         export HOME=$PWD/home secrets
         for name in $secrets; do mkdir -p $(dirname home/$name); echo secret > home/$name; done; echo plain > home/.config/plain
         for profile in default strict build network-client; do
             $RUN --profile $profile --log log -e secrets -- sh -c '
                 for name in $secrets; do cat ~/$name; test ! -e ~/$name || echo $name is there; done
                 cat /etc/shadow; ls -A ~ ~/.config' > said 2>&1
             { ! grep -e '^secret' -e 'is there' -e '^root:' said && grep -q 'shadow: Permission denied' said; } || { cat said >&2; exit 1; }
             grep -A9 '^.*/home:$' said | sed '1d;/^$/,$d' | grep -vx -e .config -e .cargo && { cat said >&2; exit 2; }
             grep -q \"rule=\\\"profile $profile:[0-9]*: hide ~/.ssh\\\"\" log || { cat log >&2; exit 3; }; rm log
         done
         $RUN --profile default -- cat home/.config/plain | grep -qx plain",
        0,
        "",
    ),
    case(
        "strict_shows_no_homes_but_the_directory_where_it_starts",
        "mkdir -p home/other home/here; echo x > home/other/f; echo here > home/here/f; export HOME=$PWD/home; cd home/here
         $RUN --profile strict -- sh -c 'cat f; ls ~; cat ~/other/f' 2> said | tr '\\n' ' ' | grep -qx 'here here ' && grep -q 'No such file' said",
        0,
        "",
    ),
    case(
        "build_leaves_gits_hooks_alone",
        "mkdir -p .git/hooks; echo '[core]' > .git/config; mkdir other; echo x > other/pre-commit
         $RUN --profile build -- sh -c 'echo x > .git/hooks/pre-commit; echo x >> .git/config; cp other/pre-commit .git/hooks/; ln other/pre-commit .git/hooks/
             python3 -c \"import os; os.rename(\\\".git\\\", \\\"g\\\")\"; rmdir .git/hooks; mv other .git/hooks; echo built > made' 2> /dev/null
         test -z \"$(ls .git/hooks)\" -a \"$(cat .git/config)\" = '[core]' -a \"$(cat made)\" = built
         rm -r .git other; $RUN --profile build -- sh -c 'mkdir -p g/hooks; echo x > g/hooks/pre-commit; mv g .git' 2> /dev/null
         test ! -e .git/hooks/pre-commit",
        0,
        "",
    ),
    case(
        "strict_runs_python",
        "$RUN --profile strict --log /dev/null -- python3 -c 'print(sum(range(10)))' | grep -qx 45",
        0,
        "",
    ),
    case(
        "strict_cannot_write_but_to_tmp",
        "$RUN --profile strict -- sh -c 'echo x > /tmp/x && cat /tmp/x && echo x > x' 2> said | grep -qx x && test ! -e x",
        0,
        "",
    ),
    case(
        "build_runs_make_and_gcc",
        "cat > main.c <<'END'
#include <stdio.h>
int main(void) { return puts(\"built\") < 0; }
END
         printf 'main: main.o\\n\\t$(CC) -o $@ $^\\n' > Makefile
         $RUN --profile build -- make > log 2>&1 || { cat log >&2; exit 1; }
         ./main | grep -qx built",
        0,
        "",
    ),
    case(
        "default_runs_git",
        "command -v git > /dev/null || exit 0
         $RUN --profile default -- sh -c 'git init -q . && git add file &&
             git -c user.name=n -c user.email=e commit -qm message && git log --oneline | grep -q message'",
        0,
        "",
    ),
    case(
        "network_client_talks_on_the_loopback",
        "$RUN --profile network-client -- python3 -c 'if 1:
            import http.server, threading, urllib.request
            server = http.server.HTTPServer((\"127.0.0.1\", 0), http.server.SimpleHTTPRequestHandler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = \"http://127.0.0.1:%d/file\" % server.server_port
            assert urllib.request.urlopen(url).read() == b\"text\\n\"' 2> /dev/null",
        0,
        "",
    ),
];
