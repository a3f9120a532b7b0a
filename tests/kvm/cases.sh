#!/bin/sh
# Inside the emulated host: each case of programs/ on its kernel, then on the kvm platform; a line for each
# that differs, and the counts after each program. Exit status 1 when there is one.
same=0 differ=0 limit=${CASE_LIMIT:-60}
for program in programs/*; do
    family=${program#programs/}
    for case in $("$program" --list); do
        timeout "$limit" "$program" "$case" >/tmp/native 2>&1 </dev/null || continue
        if timeout "$limit" ./lazaret run --platform kvm -- "/payload/$program" "$case" >/tmp/inside 2>&1 </dev/null; then
            same=$((same + 1))
        else
            differ=$((differ + 1))
            echo "kvm::$family::$case: $(tail -c 300 /tmp/inside | tr '\n' ' ')"
        fi
    done
    echo "$family: $same as on the kernel so far, $differ not"
done
echo "$same cases as on the kernel, $differ not"
[ "$differ" = 0 ]
