#!/usr/bin/env python3
"""Sandboxes for a long time: one after another, then many at once, in turn. Nothing may be left behind, and none may hang.

Each runs one of a few programs (shells, threads, processes, files, sockets, memory, signals), on each platform in turn; its
output must be that of the native run. Before and after, and after each round, the host's processes, open files, memory and mounts are
printed, and what is left of the sandboxes. Exits with 1 when an output or status was wrong, a sandbox took longer than
--limit seconds, or processes were left.

  soak.py --minutes 120
  soak.py --minutes 10 --platform ptrace --at-once 30
"""
import argparse, os, pathlib, random, shutil, subprocess, sys, tempfile, time

from kill import processes, wait_gone

THREADS = """
import threading, queue
q = queue.Queue()
threads = [threading.Thread(target=lambda: [q.put(n) for n in range(100)]) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(q.qsize())
"""
SOCKETS = """
import socket, threading
s = socket.create_server(("127.0.0.1", 0))
def serve():
    c, _ = s.accept()
    while d := c.recv(65536): c.sendall(d)
    c.close()
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(s.getsockname())
got = 0
for n in range(50):
    c.sendall(b"x" * 20000)
    have = 0
    while have < 20000: have += len(c.recv(65536))
    got += have
c.close(); t.join(); print(got)
"""
MEMORY = """
import mmap, os
m = mmap.mmap(-1, 32 << 20)
for at in range(0, 32 << 20, 4096): m[at] = 1
for n in range(5):
    if os.fork() == 0: m[n] = 9; os._exit(n)
print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for n in range(5)))
"""
SIGNALS = """
import os, signal, time
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while len(seen) < 50: signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0)
print("fifty")
"""
PYTHON = "/usr/bin/python3.11" if os.path.exists("/usr/bin/python3.11") else "/usr/bin/python3"
PROGRAMS = [
    ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i | tr 1-8 a-h | cat; done"],
    ["sh", "-c", "cd $(mktemp -d) && seq 2000 | split -l 10 - && cat x* | sort -n | tail -1 && rm x* && ls | wc -l; rmdir $PWD"],
    ["sh", "-c", "find /usr/include -maxdepth 1 -name 's*.h' | xargs cat | wc -l"],
    ["sh", "-c", "trap 'echo term; exit 3' TERM; (sleep 0.05; kill -TERM $$) & while :; do :; done"],
    ["sh", "-c", "tar cf - /usr/include/linux 2>/dev/null | tar tf - | wc -l"],
    [PYTHON, "-c", THREADS],
    [PYTHON, "-c", SOCKETS],
    [PYTHON, "-c", MEMORY],
    [PYTHON, "-c", SIGNALS],
]


class Soak:
    def __init__(self, options, place):
        self.options, self.place = options, place
        self.binary = os.path.join(place, "lazaret")
        shutil.copy(options.lazaret, self.binary)
        self.expected = [self.finish(subprocess.Popen(p, **self.pipes())) for p in PROGRAMS]
        self.started = self.wrong = self.most = 0

    def pipes(self, stdin=subprocess.DEVNULL):
        return dict(stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.place)

    def finish(self, process):
        try:
            output, _ = process.communicate(timeout=self.options.limit)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return "hang", output
        return process.returncode, output

    def start(self, gate=None):
        """Starts one. With a gate, its program waits until that is closed."""
        number = random.randrange(len(PROGRAMS))
        platform = self.options.platform[self.started % len(self.options.platform)]
        self.started += 1
        command = [self.binary, "run", "--platform", platform, "--memory", "1G", *self.options.option, "--"]
        program = PROGRAMS[number]
        if gate is None:
            return number, platform, subprocess.Popen(command + program, **self.pipes())
        waits = ["sh", "-c", 'read _; exec "$@"', "sh"]
        return number, platform, subprocess.Popen(command + waits + program, **self.pipes(gate))

    def check(self, number, platform, process):
        result = self.finish(process)
        if result != self.expected[number]:
            self.wrong += 1
            print(f"{platform}: {PROGRAMS[number][:2]}: {result} instead of {self.expected[number]}", flush=True)

    def one_after_another(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.check(*self.start())

    def at_once(self, count):
        """All are there before the first goes on."""
        gate, opener = os.pipe()
        sandboxes = [self.start(gate) for _ in range(count)]
        os.close(gate)
        # A kvm sandbox has no stub processes.
        roles = ["gofer", "sentry"] + ["stub"] * ("kvm" not in self.options.platform)
        end, most = time.monotonic() + self.options.limit, 0
        while most < count and time.monotonic() < end:
            there = processes(self.binary)
            most = max(most, min(len(there[role]) for role in roles))
        self.most = max(self.most, most)
        os.close(opener)
        for sandbox in sandboxes:
            self.check(*sandbox)

    def report(self, when):
        rest, _ = wait_gone(self.binary, self.options.limit)
        time.sleep(1)
        words = pathlib.Path("/proc/meminfo").read_text().split()
        mib = {name: int(words[words.index(f"{name}:") + 1]) >> 10 for name in ["MemAvailable", "Shmem", "Slab"]}
        processes = sum(name.isdigit() for name in os.listdir("/proc"))
        files = pathlib.Path("/proc/sys/fs/file-nr").read_text().split()[0]
        mounts = len(pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
        print(
            f"{when:>8}: {self.started:6} sandboxes, {self.wrong} wrong, {self.most} at once, {len(rest)} processes left;"
            f" host: {processes} processes, {files} files, {mounts} mounts,"
            f" {mib['MemAvailable']} MiB available, {mib['Shmem']} MiB shared, {mib['Slab']} MiB slab;"
            f" own descriptors: {len(os.listdir('/proc/self/fd'))}",
            flush=True,
        )
        return rest


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    p.add_argument("--lazaret", default=str(root / "target/x86_64-unknown-linux-gnu/fast/lazaret"))
    p.add_argument("--platform", action="append", help="systrap, ptrace (default: both)")
    p.add_argument("--option", action="append", default=[], help="further option of lazaret run")
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--at-once", type=int, default=100)
    p.add_argument("--limit", type=float, default=60, help="seconds that a sandbox may take (a shared host needs more)")
    options = p.parse_args()
    options.platform = options.platform or ["systrap", "ptrace"]
    start, rest = time.monotonic(), []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        soak = Soak(options, place)
        soak.report("before")
        while not rest and time.monotonic() - start < 60 * options.minutes:
            soak.one_after_another(60)
            soak.at_once(options.at_once)
            rest = soak.report(f"{(time.monotonic() - start) / 60:.1f} min")
    sys.exit(bool(rest or soak.wrong))


if __name__ == "__main__":
    main()
