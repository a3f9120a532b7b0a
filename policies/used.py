#!/usr/bin/env python3
"""Which rules of the system-call filters are used: used.py COMMAND [ARG...]

Runs COMMAND, which may start any number of sandboxes, and counts for each rule of seccomp/*.json how often
Lazaret's own processes made a call that it lets through, once their filter was in force. Prints the rules, and
how many different calls each role made. Wants perf(1), the right to use it (root), and the C library's headers.

    policies/used.py cargo test --profile fast --workspace
    policies/used.py sh -c 'lazaret run -- redis-server --version'
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

SECCOMP, SET_MODE_FILTER, FLAG_TSYNC = 317, 1, 1
# execve, exit_group, execveat: whoever has that number next is another program.
ENDS = {59, 231, 322}
# perf script: the thread's name (which may have blanks), pid/tid, number and arguments.
EVENT = re.compile(rb" *(.*?) +(-?\d+)/-?\d+ +NR (-?\d+) \((.*)\)")
# Standard output is for the events.
ASIDE = ["sh", "-c", 'exec "$@" >&2', "sh"]
SENTRY_THREADS = {b"lazaret-sentry", b"stub-reaper", b"launcher"}
ROLES = {"sentry": ["sentry_systrap", "sentry_ptrace", "sentry"], "gofer": ["gofer"]}
FOLDER = pathlib.Path(__file__).parent / "seccomp"
HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def numbers():
    text = pathlib.Path(HEADER).read_text()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


class Role:
    """A role's rules, by the number of the call."""

    def __init__(self, name, files, known):
        self.name = name
        self.rules = []
        for file in files:
            stages = json.loads((FOLDER / f"{file}.json").read_text())
            self.rules += [rule for stage in stages.values() for rule in stage["filter"]]
        self.counts = [0] * len(self.rules)
        self.calls = collections.defaultdict(list)
        for at, rule in enumerate(self.rules):
            self.calls[known[rule["syscall"]]].append(at)

    def record(self, call, args, times):
        for at in self.calls.get(call, []):
            if self.holds(self.rules[at], args):
                self.counts[at] += times

    @staticmethod
    def holds(rule, args):
        for condition in rule.get("args", []):
            op, value = condition["op"], args[condition["index"]]
            if condition["type"] == "dword":
                value &= 0xFFFFFFFF
            mask = op["masked_eq"] if isinstance(op, dict) else 0xFFFFFFFFFFFFFFFF
            if value & mask != condition["val"]:
                return False
        return True

    def print(self):
        for rule, count in zip(self.rules, self.counts):
            args = "".join(f" {it.get('comment', it['val'])}" for it in rule.get("args", []))
            print(f"{self.name:8}{count:>12}  {rule['syscall']}{args}")
        made = {rule["syscall"] for rule, count in zip(self.rules, self.counts) if count}
        listed = {rule["syscall"] for rule in self.rules}
        print(f"{self.name}: {len(made)} of {len(listed)} calls were made; unused rules: {self.counts.count(0)}")


class Process:
    """What one process called since the last filter of its own."""

    def __init__(self):
        self.names = set()
        self.is_filtered = False
        self.calls = collections.Counter()

    def role(self):
        return "sentry" if self.names & SENTRY_THREADS else "gofer"


def main():
    command = sys.argv[1:]
    if not command or command[0].startswith("-"):
        sys.exit(__doc__)
    known = numbers()
    roles = {name: Role(name, files, known) for name, files in ROLES.items()}
    record = ["perf", "record", "-q", "-m", "16M", "-e", "raw_syscalls:sys_enter", "-o", "-", "--"]
    recorder = subprocess.Popen(record + ASIDE + command, stdout=subprocess.PIPE)
    script = ["perf", "script", "-i", "-", "-F", "pid,tid,comm,trace"]
    printer = subprocess.Popen(script, stdin=recorder.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    processes = collections.defaultdict(Process)

    def settle(process):
        role = roles[process.role()]
        for (call, args), times in process.calls.items():
            role.record(call, args, times)
        process.calls.clear()

    for line in printer.stdout:
        event = EVENT.match(line)
        if not event:
            continue
        name, process, call = event[1], processes[event[2]], int(event[3])
        process.names.add(name)
        args = tuple(int(arg, 16) for arg in event[4].split(b", "))
        # For all threads: stub processes have filters of other kinds.
        if call == SECCOMP and args[:2] == (SET_MODE_FILTER, FLAG_TSYNC) and args[2]:
            process.is_filtered = True
            process.calls.clear()
        elif process.is_filtered:
            process.calls[call, args] += 1
            if len(process.calls) > 100_000:
                settle(process)
        if call in ENDS:
            settle(processes.pop(event[2]))
    for process in processes.values():
        settle(process)
    for role in roles.values():
        role.print()
    sys.exit(recorder.wait())


if __name__ == "__main__":
    main()
