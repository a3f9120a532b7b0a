#!/bin/sh
# A sandbox's control group, where one is delegated (cgroups(7)): limits, members, the end. Wants root, busybox's su, and a
# kernel whose memory and pids controllers are not taken by version 1. Inside the emulated host:
#
#   mkdir p && cp LAZARET tests/kvm/cgroups.sh p && tests/kvm/emulated_host.sh p 'sh cgroups.sh ./LAZARET'
#
# A line for each case; exit status 1 when one failed.
lazaret=/tmp/lazaret-cgroups root=/sys/fs/cgroup failed=0
cp "$1" $lazaret && chmod 755 $lazaret
grep -q " $root cgroup2 " /proc/mounts || mount -t cgroup2 cgroup2 $root || exit 125
echo '+memory +pids' >$root/cgroup.subtree_control || exit 125
grep -q '^user:' /etc/passwd || echo 'user:x:1000:1000::/tmp:/bin/sh' >>/etc/passwd
cd /tmp

says() { # CASE: the status before it is the case's.
    [ $? = 0 ] && echo "ok      $1" || { echo "FAILED  $1"; failed=1; }
}
# Waits until the command succeeds.
until_true() {
    tries=600
    until "$@" 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "never: $*"; return 1; }
        sleep 0.1
    done
}
no_group() { [ -z "$(find $root -name 'lazaret-*')" ]; }
has() { [ "$(cat $group/$1)" = "$2" ] || { echo "$1 is $(cat $group/$1)"; false; }; }
is_member() {
    cat $(sed 's|.*|/proc/&/cmdline /proc/&/comm|' $group/cgroup.procs) | grep -q "$1" || { echo "no $1"; false; }
}

# Runs `lazaret ARGUMENT...` as $who in the group $launchers, in the background; sets $launcher, and $group once a guest runs.
start() {
    : >said
    (
        exec sh -c "echo 0 >$launchers/cgroup.procs; exec su -s /bin/sh $who -c 'echo \$\$ >/tmp/pid-$who; exec $lazaret run $*'" \
            >said 2>&1 </dev/null
    ) &
    shell=$!
    until_true grep -q ready said || { cat said; return 1; }
    launcher=$(cat /tmp/pid-$who)
    group=$(find $root -name "lazaret-$launcher")
    [ -n "$group" ] || { echo "no group for $launcher"; return 1; }
}
ends_with() {
    wait $shell
    status=$?
    [ $status = "$1" ] || { echo "status $status, not $1:"; cat said; return 1; }
}
guest="-- sh -c \"sleep 1000 & echo ready; wait\""

for who in user root; do
    delegated=$root/delegated-$who
    launchers=$delegated/launchers
    mkdir -p $launchers
    echo '+memory +pids' >$delegated/cgroup.subtree_control
    chown $who $delegated $delegated/cgroup.procs $delegated/cgroup.subtree_control $launchers $launchers/cgroup.procs

    (echo 0 >$launchers/cgroup.procs; exec su -s /bin/sh $who -c "$lazaret doctor") | grep -q '^ok  control group'
    says "$who: doctor_says_that_one_is_delegated"

    for platform in systrap ptrace; do
        name="$who, $platform"
        start --platform $platform --memory 64M --pids 50 "$guest" &&
            has memory.max $((80 * 1048576 + 268435456)) && has pids.max 456 && has memory.oom.group 1 &&
            [ "$group" = $delegated/lazaret-$launcher ]
        says "$name: limits_lie_above_those_of_the_table"

        # Gofer, sentry, and a stub process for the shell and for its child at least.
        grep -q "delegated-$who/launchers" /proc/$launcher/cgroup && [ "$(wc -l <$group/cgroup.procs)" -ge 4 ] &&
            is_member internal-sentry && is_member internal-gofer && is_member guest
        says "$name: all_but_the_launcher_are_members"

        kill -TERM $launcher
        wait $shell
        until_true no_group
        says "$name: the_group_goes_with_a_sandbox_that_is_told_to_end"

        start --platform $platform --memory 64M --pids 50 "-- sh -c \"echo ready; sleep 5; exit 7\"" && ends_with 7 && no_group
        says "$name: the_group_goes_with_the_command"

        start --platform $platform --memory 64M --pids 50 "$guest" && kill -9 $launcher && until_true grep -q 'populated 0' $group/cgroup.events
        says "$name: all_end_with_a_launcher_that_is_killed"
        wait $shell
        old=$group
        [ -e "$old" ] && start --platform $platform --memory 64M "$guest" && [ ! -e "$old" ] && has pids.max max
        says "$name: the_next_sandbox_removes_what_was_left"

        # As if the sandbox held more than the sentry counts.
        echo 1M >$group/memory.max
        wait $shell
        status=$?
        [ $status = 125 ] && grep -q '^lazaret: .* control group' said && until_true no_group || { echo "status $status:"; cat said; false; }
        says "$name: over_the_memory_limit_the_sandbox_ends"

        start --platform $platform --pids 50 "-- sh -c \"echo ready; sleep 1; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo done\"" &&
            cat $group/pids.current >$group/pids.max && has memory.max max
        # The shell cannot make a process: EAGAIN, as fork(2) says.
        ends_with 2 && grep -q 'Resource temporarily unavailable' said && until_true no_group
        says "$name: at_the_limit_of_processes_fork_fails"
    done

    # Not told to limit anything: nothing is made.
    start "$guest" >/dev/null
    no_group
    says "$who: without_limits_there_is_no_group"
    kill -TERM $launcher
    wait $shell
done

# The other's: nothing may be written there.
who=user launchers=$root/delegated-root/launchers
start --memory 64M "$guest" >/dev/null
no_group
says "user: where_none_is_delegated_there_is_no_group"
kill -TERM $launcher
wait $shell
exit $failed
