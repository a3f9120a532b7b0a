#!/bin/sh
# Runs the usual peers; further arguments go to run.py. BWRAP, RUNSC, LAZARET and STATE can be set in the environment; a
# peer that is not installed is left out. The work directory must not lie below /tmp, which is private in a sandbox.
here=$(cd "$(dirname "$0")" && pwd)
LAZARET=${LAZARET:-$here/../target/x86_64-unknown-linux-gnu/release/lazaret}
BWRAP=${BWRAP:-bwrap} RUNSC=${RUNSC:-runsc} STATE=${STATE:-/var/tmp/lazaret-bench-runsc}
set -- --work "${WORK:-/var/tmp/lazaret-bench}" "$@"
# The sandbox must see this folder even when it lies below /tmp.
set -- --peer "lazaret=$LAZARET run --ro-bind $here --" --peer "lazaret-ptrace=$LAZARET run --platform ptrace --ro-bind $here --" "$@"
if command -v "$RUNSC" >/dev/null; then
    mkdir -p "$STATE"
    set -- --peer "runsc=$RUNSC --platform=systrap --network=none --ignore-cgroups --root $STATE do" "$@"
fi
if command -v "$BWRAP" >/dev/null; then
    set -- --peer "bwrap=$BWRAP --unshare-all --die-with-parent --ro-bind / / --dev /dev --proc /proc --bind {scratch} {scratch} --" "$@"
fi
exec "$here/run.py" --peer "native=" "$@"
