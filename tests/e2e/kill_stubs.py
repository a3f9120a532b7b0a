"""Kills a host process that runs guest code, at random moments from the start on: that is a SIGKILL of a process inside, or,
where it was the one all others come from, the end of the sandbox; and nothing of it is left.

Exit status 0 when that holds; else a message. $RUN starts a sandbox."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time

ROUNDS, WAIT = 12, 10
# Children that share their parent's memory come and go.
BUSY = ["--", "sh", "-c", "while :; do /bin/true; done"]
ENDS = {137: "killed", 143: "the SIGTERM of this script", 125: "the platform is gone"}


def below(root):
    """Process ids and names of all that come from `root`."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            name, rest = open(f"/proc/{entry}/stat").read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        children.setdefault(int(rest.split()[1]), []).append((int(entry), name))
    found = children.get(root, [])
    for pid, _ in found:
        found.extend(children.get(pid, []))
    return found


def start_time(pid):
    """Tells a process from a later one of the same id; None when it is gone, or all but."""
    try:
        rest = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if rest[0] == "Z" else rest[19]


random.seed(4)
for number in range(ROUNDS):
    sandbox = subprocess.Popen(shlex.split(os.environ["RUN"]) + BUSY, stderr=subprocess.PIPE)
    begin, delay, guests = time.monotonic(), random.uniform(0, 0.1), []
    while time.monotonic() - begin < WAIT and not (guests and time.monotonic() - begin > delay):
        guests = [pid for pid, name in below(sandbox.pid) if name == "guest"]
    known = {pid: start_time(pid) for pid, _ in below(sandbox.pid)}
    if guests:
        try:
            os.kill(random.choice(guests), signal.SIGKILL)
        except ProcessLookupError:
            pass
    time.sleep(0.05)
    known.update((pid, start_time(pid)) for pid, _ in below(sandbox.pid))
    sandbox.terminate()
    try:
        status = sandbox.wait(WAIT)
    except subprocess.TimeoutExpired:
        sandbox.kill()
        sys.exit(f"round {number}: it goes on")
    if status not in ENDS:
        sys.exit(f"round {number}: status {status}, {sandbox.stderr.read(500)}")
    end = time.monotonic() + WAIT
    while left := [pid for pid, start in known.items() if start and start_time(pid) == start]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            sys.exit(f"round {number}: {left} are left")
        time.sleep(0.01)
    sandbox.stderr.close()
