# The tests of Python's standard library (Debian: libpython3.11-testsuite): what passes natively passes inside.
# needs: /usr/bin/python3.11 /usr/lib/python3.11/test/test_os.py
# compare: lines
# seconds: 1500
# each: test_os test_posix test_subprocess test_signal test_threading test_thread test_mmap test_fcntl test_select test_epoll test_poll test_selectors test_socket test_asyncio test_multiprocessing_fork test_multiprocessing_spawn test_tempfile test_shutil test_pathlib test_io test_pty test_tty test_time test_resource test_sqlite3
# The vsock test talks to the hypervisor, and hangs where that does not answer.
/usr/bin/python3.11 -m test -v --ignore '*VSOCK*' "$1" >log 2>&1
status=$?
# "name (class) ... ok", whatever other output came between the two
/usr/bin/python3.11 - <<'X' | sort
import re
text = open("log", errors="replace").read()
starts = list(re.finditer(r"^(test\w*) \(([\w.]+)\)", text, re.M))
for one, after in zip(starts, starts[1:] + [None]):
    body = text[one.end():after.start() if after else len(text)]
    if re.search(r"(^|\.\.\. |\s)ok$", body, re.M):
        print(one[1], one[2], "ok")
X
grep -E '^(Ran|OK|FAILED|FAIL:|ERROR:)' log >&2
exit $status
