#!/bin/sh
# How often vCPUs leave guest code for each thing that exits.c does: counted by KVM, as the difference of
# two runs. `copy` is a write to a page after `fork`, and its first touch before. Takes what comes before the program as arguments, and needs debugfs:
#
#   [THINGS='getpid:20000 fork:200'] tests/kvm/exits.sh ./lazaret run --platform kvm -- /payload/exits
counted() {
    mkfifo /tmp/said
    "$@" >/tmp/said 2>&1 </dev/null &
    runner=$!
    said=
    read -r said </tmp/said
    exits=$(cat /sys/kernel/debug/kvm/exits)
    kill -9 "$runner" 2>/dev/null
    wait "$runner" 2>/dev/null
    rm /tmp/said
    [ "$said" = done ] || echo "exits: $*: $said" >&2
    # What it started goes away as well.
    while [ "$(cat /sys/kernel/debug/kvm/exits)" != 0 ]; do sleep 0.1; done
}
[ -d /sys/kernel/debug/kvm ] || mount -t debugfs debug /sys/kernel/debug
for thing in ${THINGS:-getpid:20000 clock:20000 getppid:2000 touch:4000 copy:2000 mmap:1000 pipe:1000 fork:200}; do
    what=${thing%:*} count=${thing#*:}
    counted "$@" "$what" "$count"
    few=$exits
    counted "$@" "$what" $((count * 2))
    echo "$what $few $exits $count" | awk '{printf "%-8s %8.3f exits\n", $1, ($3 - $2) / $4}'
done
