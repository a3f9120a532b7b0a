#!/usr/bin/env python3
"""Real programs, natively and inside: same output, same status.

Each script in programs/ is run by every runner in a fresh, empty directory. The first runner is the oracle. A
script's head says how it is judged:

  # needs: a b       programs (or, with a slash, files) without which it is skipped
  # compare: output  (the default) standard output and exit status are equal
  # compare: lines   every line that the oracle prints is printed, and the status is no worse
  # each: a b c      run once for each word, which is the script's argument
  # seconds: 900     time limit

Examples:
  run.py                                  all scripts, natively and on both platforms
  run.py --only 'files*' --only git       some of them
  run.py --as-user --jail landlock        as an ordinary user where no user namespace can be made
  REAL_SOURCES=/src run.py --only 'source_*'   with unpacked source trees in /src

Exits with 1 when a runner differs from the oracle.
"""
import argparse, fnmatch, hashlib, os, pathlib, re, shlex, shutil, signal, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
NOBODY = 65534
# An ordinary user without capabilities, who may gain none and make no user namespace.
NO_NAMESPACES = ("echo 0 >/proc/sys/user/max_user_namespaces; "
                 "exec setpriv --no-new-privs --bounding-set -all --inh-caps -all \"$@\"")
AS_USER = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lazaret", default=str(HERE.parents[1] / "target/x86_64-unknown-linux-gnu/fast/lazaret"))
    p.add_argument("--platform", action="append", help="systrap, ptrace (default: both)")
    p.add_argument("--jail", help="rung to insist on")
    p.add_argument("--option", action="append", default=[], help="further option of lazaret run")
    p.add_argument("--as-user", action="store_true", help="as nobody, where no user namespace can be made (needs root)")
    p.add_argument("--wrap", default="", help="command that starts lazaret, e.g. one that applies a filter")
    p.add_argument("--only", action="append", metavar="GLOB", help="scripts, or script:argument")
    p.add_argument("--work", default="/var/tmp/lazaret-real", help="work directory, not below /tmp")
    p.add_argument("--keep", action="store_true", help="keep the outputs in the work directory")
    return p.parse_args()


def runners(a):
    # The oracle too, because files of others have no owner there.
    user = [*AS_USER, "unshare", "-Ur", "sh", "-c", NO_NAMESPACES, "sh"] if a.as_user else []
    yield "native", user
    for platform in a.platform or ["systrap", "ptrace"]:
        command = user + shlex.split(a.wrap) + [a.lazaret, "run", "--platform", platform]
        command += ["--jail", a.jail] if a.jail else []
        if os.environ.get("REAL_SOURCES"):
            command += ["--ro-bind", os.environ["REAL_SOURCES"]]
        yield platform, command + a.option + ["--"]


def head(script):
    found = {"needs": "", "compare": "output", "each": "", "seconds": "600"}
    for line in script.read_text().splitlines():
        m = re.match(r"# (needs|compare|each|seconds): (.*)", line)
        if m:
            found[m[1]] = m[2]
    return found


def missing(needs):
    return [n for n in needs.split() if not (os.path.exists(os.path.expandvars(n)) if "/" in n else shutil.which(n))]


def jobs(a):
    for script in sorted((HERE / "programs").glob("*.sh")):
        h = head(script)
        for word in h["each"].split() or [None]:
            name = script.stem + (f":{word}" if word else "")
            if not a.only or any(fnmatch.fnmatch(name, g) or fnmatch.fnmatch(script.stem, g) for g in a.only):
                yield name, script, word, h


def run(command, script, word, seconds, work, name):
    """Runs a script in an empty directory; gives status, output, seconds."""
    scratch = work / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    scratch.chmod(0o777)
    own = dict(os.environ, HOME=str(scratch), LC_ALL="C", PATH="/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
    own.pop("TMPDIR", None)
    if shutil.which("cargo"):  # whose toolchains lie in the user's home
        own["PATH"] += ":" + os.path.dirname(shutil.which("cargo"))
        own["RUSTUP_HOME"] = os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup"))
    start = time.monotonic()
    with open(work / f"{name}.out", "wb") as out, open(work / f"{name}.err", "wb") as err:
        child = subprocess.Popen(command + ["/bin/sh", "-c", script.read_text(), script.name] + ([word] if word else []),
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=scratch, env=own, start_new_session=True)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            status = "timeout"
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)  # what it left in the background
            except ProcessLookupError:
                pass
            child.wait()
    return status, (work / f"{name}.out").read_bytes(), time.monotonic() - start


def verdict(h, oracle, got):
    if h["compare"] == "lines":
        lost = sorted(set(oracle[1].splitlines()) - set(got[1].splitlines()))
        if lost:
            return f"{len(lost)} lines missing, first: {lost[0].decode(errors='replace')[:100]}"
        return "" if got[0] == 0 or got[0] == oracle[0] else f"status {got[0]}, natively {oracle[0]}"
    if got[0] != oracle[0]:
        return f"status {got[0]}, natively {oracle[0]}"
    return "" if got[1] == oracle[1] else "output differs"


def main():
    a = arguments()
    work = pathlib.Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    differ = 0
    for name, script, word, h in jobs(a):
        lacks = missing(h["needs"])
        if lacks:
            print(f"{name:34} skipped: no {' '.join(lacks)}", flush=True)
            continue
        oracle = None
        for runner, command in runners(a):
            got = run(command, script, word, float(h["seconds"]), work, f"{name}.{runner}")
            digest = hashlib.sha256(got[1]).hexdigest()[:12]
            line = f"{name:34} {runner:8} status {got[0]} {got[2]:7.1f} s  {digest}  {len(got[1].splitlines())} lines"
            if oracle is None:
                oracle = got
                trouble = ""
                if got[0] != 0:
                    line += "  (the oracle itself fails)"
            else:
                trouble = verdict(h, oracle, got)
                line += "  same" if not trouble else f"  DIFFERS: {trouble}"
            differ += bool(trouble)
            print(line, flush=True)
    shutil.rmtree(work / "scratch", ignore_errors=True)
    if not a.keep and not differ:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{differ} differences")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
