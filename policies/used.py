#!/usr/bin/env python3
"""Which rules of the system-call filters are used: used.py [--check] [--add FILE] COMMAND [ARG...]

Runs COMMAND, which may start any number of sandboxes, and counts for each rule of seccomp/*.json how often
Lazaret's own processes made a call that it lets through, once their filter was in force. Prints the rules, and
how many different calls each role made. With the option --check it fails when a rule was not used whose comment
does not begin with "seldom:". The kvm platform's rules are among them where LAZARET_TEST_KVM is set. Wants perf(1), the
right to use it (root), and the C library's headers.

A busy host loses events when there are many. With --add, counts are added to those in FILE, and only calls are
recorded that may be by a rule which was neither used yet nor is seldom: after a small run that makes the frequent
calls, few are left for the long one. What is lost is said; a rule that seems unused for that is found by one more run.

    for platform in systrap ptrace; do
        policies/used.py --add used.json lazaret run --platform $platform -- sh -c 'seq 9 | cat'
    done
    policies/used.py --add used.json --check cargo test --profile fast --workspace
    policies/used.py sh -c 'lazaret run -- redis-server --version'
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SECCOMP, SET_MODE_FILTER, FLAG_TSYNC = 317, 1, 1
# perf leaves descriptors of its own open.
CLOSED = ["sh", "-c", 'exec "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-', "sh"]
# perf script: the thread's name (which may have blanks), pid/tid, number and arguments.
EVENT = re.compile(rb" *(.*?) +(-?\d+)/(-?\d+) +NR (-?\d+) \((.*)\)")
# A new name, by execve(2) or not; a new process or thread and where it comes from; how many events there is no room for.
NAMED = re.compile(rb".* PERF_RECORD_COMM( exec)?: (.*):(\d+)/(\d+)$")
FORKED = re.compile(rb".* PERF_RECORD_FORK\((\d+):(\d+)\):\((\d+):\d+\)")
LOST = re.compile(rb".* PERF_RECORD_LOST lost (\d+)")
# Names of threads that tell what a process is, or with what and a hyphen they begin; the first that fits.
NAMES = [(b"lazaret-sentry", "sentry"), (b"stub-reaper", "sentry"), (b"lazaret-gofer", "gofer"), (b"lazaret", "launcher")]
# A test that is the launcher (cli/tests/panics.rs).
NAMES += [(b"panics", "launcher")]
STUB = b"guest"
ROLES = {
    "launcher": ["launcher"],
    "sentry": ["sentry_systrap", "sentry_ptrace", "sentry"],
    "gofer": ["gofer"],
    "stub": ["stub", "stub_systrap", "stub_ptrace"],
    "helper": ["helper", "helper_systrap", "helper_ptrace"],
    "guest": ["guest_systrap", "guest_ptrace"],
}
if os.environ.get("LAZARET_TEST_KVM"):
    ROLES["sentry"].append("sentry_kvm")
FILTERS = {"BASE": "stub", "MAPPER": "helper", "GUEST": "guest"}
FOLDER = pathlib.Path(__file__).resolve().parent / "seccomp"
LAYOUT = FOLDER.parents[1] / "platform/src/stub/layout.rs"
HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def layout():
    """Where a stub process has its filters, and what rules call addresses (platform/src/stub/filter.rs)."""
    found = re.findall(r"const (\w+): u64 = ([\da-fx_]+);", LAYOUT.read_text())
    at = {name: int(value.replace("_", ""), 0) for name, value in found}
    filters = {at["CONST"] + at[f"C_{name}_FILTER"]: role for name, role in FILTERS.items()}
    return filters, {
        **at,
        "SLOTS_END": at["SLOTS"] + (1 << at["SLOTS_SHIFT"]),
        "ACKS": at["CONST"] + at["C_ACKS"],
        "CONST_END": at["CONST"] + at["CONST_SIZE"],
        "NEVER": at["COMMAND"] + at["M_NEVER"],
        "BATCH": at["COMMAND"] + at["M_BATCH_SEQ"],
        # CLONE_FILES, CLONE_PIDFD and SIGCHLD; what threads share (linux/sched.h).
        "CLONE_PROCESS": 0x1411,
        "CLONE_THREAD": 0x50F00,
    }


def numbers():
    text = pathlib.Path(HEADER).read_text()
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", text)}


class Role:
    """A role's rules, by the number of the call."""

    def __init__(self, name, files, known, addresses):
        self.name = name
        self.addresses = addresses
        self.rules = []
        for file in files:
            parts = json.loads((FOLDER / f"{file}.json").read_text())
            if "rules" in parts:
                # What is handed over or refused is not seen by perf.
                self.rules += [rule for rule in parts["rules"] if rule.get("action") != "notify"]
            else:
                stages = [stage for stage in parts.values() if stage["match_action"] == "allow"]
                self.rules += [rule for stage in stages for rule in stage["filter"]]
        self.counts = [0] * len(self.rules)
        self.calls = collections.defaultdict(list)
        for at, rule in enumerate(self.rules):
            self.calls[known[rule["syscall"]]].append(at)

    def record(self, call, args, times):
        for at in self.calls.get(call, []):
            if self.holds(self.rules[at], args):
                self.counts[at] += times

    def holds(self, rule, args):
        for condition in rule.get("args", []):
            op, arg, value = condition["op"], args[condition["index"]], condition["val"]
            value = self.addresses.get(value, value)
            if condition.get("type") == "dword":
                arg &= 0xFFFFFFFF
            if isinstance(op, dict):
                fits = arg & op["masked_eq"] == value
            else:
                fits = {
                    "eq": arg == value,
                    "lt": arg < value,
                    "le": arg <= value,
                    "ge": arg >= value,
                    "set": arg & value == value,
                }[op]
            if not fits:
                return False
        return True

    def print(self):
        for rule, count in zip(self.rules, self.counts):
            print(f"{self.name:9}{count:>12}  {self.describe(rule)}")
        made = {rule["syscall"] for rule, count in zip(self.rules, self.counts) if count}
        listed = {rule["syscall"] for rule in self.rules}
        print(f"{self.name}: {len(made)} of {len(listed)} calls were made; unused rules: {self.counts.count(0)}")

    @staticmethod
    def describe(rule):
        args = "".join(f" {it.get('comment', it['val'])}" for it in rule.get("args", []))
        return f"{rule['syscall']}{args}"

    def unused(self):
        """The rules that should have been used."""
        for rule, count in zip(self.rules, self.counts):
            if count == 0 and not rule["comment"].startswith("seldom:"):
                yield rule

    def add(self, saved):
        """Counts of an earlier run, as `save` gave them."""
        for at, rule in enumerate(self.rules):
            self.counts[at] += saved.get(self.key(rule), 0)

    def save(self):
        return {self.key(rule): count for rule, count in zip(self.rules, self.counts)}

    @staticmethod
    def key(rule):
        return json.dumps([rule["syscall"], rule.get("args", [])])


class Process:
    """What one process called since the last filter of its own."""

    def __init__(self):
        self.names = set()
        self.is_filtered = False
        self.calls = collections.Counter()

    def role(self):
        fits = lambda start: any(name == start or name.startswith(start + b"-") for name in self.names)
        return next((role for name, role in NAMES if fits(name)), None)


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    p.add_argument("--add", type=pathlib.Path, metavar="FILE")
    p.add_argument("command", nargs=argparse.REMAINDER)
    given = p.parse_args()
    if not given.command:
        p.error("no command")
    return given


def main():
    given = options()
    filters, addresses = layout()
    known = numbers()
    roles = {name: Role(name, files, known, addresses) for name, files in ROLES.items()}
    if given.add and given.add.exists():
        saved = json.loads(given.add.read_text())
        for name, role in roles.items():
            role.add(saved.get(name, {}))
    wanted = {known[rule["syscall"]] for role in roles.values() for rule in role.unused()}
    chosen = " || ".join(f"id == {call}" for call in sorted(wanted | {SECCOMP}))
    # By way of a file: who reads while it goes on is too slow, and events get lost.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        data = f"{place}/events"
        record = ["perf", "record", "-q", "-m", "64M", "-e", "raw_syscalls:sys_enter", "--filter", chosen]
        ended = subprocess.run([*record, "-o", data, "--", *CLOSED, *given.command]).returncode
        script = ["perf", "script", "-i", data, "-F", "pid,tid,comm,trace", "--show-task-events", "--show-lost-events"]
        with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as printer:
            lost = count(printer.stdout, roles, filters)
    for role in roles.values():
        role.print()
    if lost:
        print(f"{lost} events were lost")
    if given.add:
        given.add.write_text(json.dumps({name: role.save() for name, role in roles.items()}, indent=1))
    unused = [(role, rule) for role in roles.values() for rule in role.unused()]
    if given.check:
        for role, rule in unused:
            print(f"{role.name}: {role.describe(rule)}: {rule['comment']}")
        print(f"rules that were not used: {len(unused)}")
    sys.exit(ended or int(given.check and bool(unused)))


def count(lines, roles, filters):
    """Counts the calls that `perf script` printed. Returns how many events were lost."""
    processes = collections.defaultdict(Process)
    # Of stub processes: threads that have a filter of their own besides.
    threads = {}
    lost = 0

    def settle(process):
        role = process.role()
        for (call, args), times in process.calls.items() if role else []:
            roles[role].record(call, args, times)
        process.calls.clear()

    for line in lines:
        event = EVENT.match(line)
        if not event:
            # Whoever has a number again is another thread or program.
            if forked := FORKED.match(line):
                threads.pop(forked[2], None)
                if forked[1] != forked[3] and forked[1] in processes:
                    settle(processes.pop(forked[1]))
            elif named := NAMED.match(line):
                if named[1] and named[3] in processes:
                    settle(processes.pop(named[3]))
                processes[named[3]].names.add(named[2])
            elif missing := LOST.match(line):
                lost += int(missing[1])
            continue
        name, pid, tid, call = event[1], event[2], event[3], int(event[4])
        args = tuple(int(arg, 16) for arg in event[5].split(b", "))
        if name == STUB:
            roles["stub"].record(call, args, 1)
            if call == SECCOMP:
                threads[tid] = filters.get(args[2])
            elif threads.get(tid) in ("helper", "guest"):
                roles[threads[tid]].record(call, args, 1)
            continue
        process = processes[pid]
        process.names.add(name)
        # For all threads: stub processes have filters of other kinds.
        if call == SECCOMP and args[:2] == (SET_MODE_FILTER, FLAG_TSYNC) and args[2]:
            process.is_filtered = True
            process.calls.clear()
        elif process.is_filtered:
            process.calls[call, args] += 1
            if len(process.calls) > 100_000:
                settle(process)
    for process in processes.values():
        settle(process)
    return lost


if __name__ == "__main__":
    main()
