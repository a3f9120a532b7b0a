#!/usr/bin/env python3
"""Kills a process of a sandbox at random moments: the sandbox must end at once, and leave nothing.

Each round starts a busy sandbox, kills one of its processes (launcher, sentry, gofer, stub: in turn) with SIGKILL after
a random time, and waits until all are gone. Prints the times that took; exits with 1 when one was longer than
a second, a status was wrong, something was left, or half of them came too early. Killing a stub ends a process inside, not the sandbox, unless it is
the one that all others come from.

  kill.py --rounds 200 --platform ptrace
"""
import argparse, os, pathlib, random, shutil, signal, subprocess, sys, tempfile, time

BUSY = "while :; do find /usr/include -maxdepth 2 | head -50 | xargs cat | wc -c; (echo a | tr a b) & wait; done > /dev/null 2>&1"
ROLES = ["launcher", "sentry", "gofer", "stub"]


def processes(binary):
    """Host ids of all that run this copy of the binary, by role."""
    found = {role: [] for role in ROLES}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{entry}/exe") != binary:
                continue
            line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            name = pathlib.Path(f"/proc/{entry}/comm").read_text().strip()
            if pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
        except OSError:
            continue
        if name == "guest":
            role = "stub"
        elif b"internal-sentry" in line:
            role = "sentry"
        elif b"internal-gofer" in line:
            role = "gofer"
        else:
            role = "launcher"
        found[role].append(int(entry))
    return found


def left(binary):
    return sum(processes(binary).values(), [])


def wait_gone(binary, limit=10):
    start = time.monotonic()
    while (rest := left(binary)) and time.monotonic() - start < limit:
        time.sleep(0.005)
    return rest, time.monotonic() - start


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    p.add_argument("--lazaret", default=str(root / "target/x86_64-unknown-linux-gnu/fast/lazaret"))
    p.add_argument("--platform", default="systrap")
    p.add_argument("--jail", default="auto")
    p.add_argument("--rounds", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    random.seed(a.seed)
    place = tempfile.mkdtemp(dir="/var/tmp", prefix="lazaret-kill-")
    binary = os.path.join(place, "lazaret")
    shutil.copy(a.lazaret, binary)
    roles = ROLES if a.platform != "kvm" else ROLES[:3]  # which has no stub processes
    times, bad, early = {role: [] for role in roles}, 0, 0
    for round in range(a.rounds):
        role = roles[round % len(roles)]
        launcher = subprocess.Popen([binary, "run", "--platform", a.platform, "--jail", a.jail, "--", "sh", "-c", BUSY],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=place)
        time.sleep(random.uniform(0, 0.4))
        # Others that look like the launcher are about to become something else.
        victims = [launcher.pid] if role == "launcher" else processes(binary)[role]
        start = time.monotonic()
        for victim in victims and [random.choice(victims)]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                victims = []
        early += not victims
        ended = role != "stub" and bool(victims)
        if not ended:
            time.sleep(0.05)
            launcher.terminate()
        try:
            status = launcher.wait(10)
        except subprocess.TimeoutExpired:
            status = "none"
        rest, _ = wait_gone(binary)
        took = time.monotonic() - start
        times[role].append(took)
        expected = {"launcher": [-9], "sentry": [125], "gofer": [125], "stub": [143, 137, 125]}[role] if ended or role == "stub" else [143, 137, 125, -15]
        if rest or took > 1 or status not in expected:
            bad += 1
            said = launcher.stderr.read(300) if status != "none" else b""
            print(f"round {round}: {role} killed: status {status}, {took:.2f} s, left {rest}, said {said!r}", flush=True)
        for pid in rest:
            os.kill(pid, signal.SIGKILL)
        launcher.stderr.close()
    shutil.rmtree(place)
    for role, all in times.items():
        all.sort()
        if all:
            print(f"{role:9} {len(all)} times, gone after {all[len(all) // 2]:.3f} s in the median, {all[-1]:.3f} s at most")
    print(f"{bad} of {a.rounds} not as they should be; {early} came before there was such a process, and ended by SIGTERM")
    return 1 if bad or 2 * early > a.rounds else 0


if __name__ == "__main__":
    sys.exit(main())
