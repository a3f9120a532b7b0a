# Pipes, here-documents, traps, job control, process substitution.
# needs: bash
bash <<'X'
set -m
cat <<Y | tr a-z A-Z
a here-document
Y
diff <(seq 1 5) <(seq 1 6); echo "diff $?"
trap 'echo caught USR1' USR1; kill -USR1 $$
sleep 100 & kill -STOP %1; sleep 0.3; jobs %1 | sed 's/  */ /g'; bg %1 >/dev/null; kill %1; wait %1; echo "killed $?"
(trap 'echo leaving' EXIT; exit 7); echo "sub $?"
for i in $(seq 1 200); do echo $i; done | while read -r n; do echo $((n * n)); done | sort -n | tail -1
coproc tr a b; echo banana >&"${COPROC[1]}"; exec {COPROC[1]}>&-; cat <&"${COPROC[0]}"
exec 3<>/dev/null; echo "fd $?"; ulimit -n 64; ulimit -n
x=$(mktemp); echo "$x" | sed 's/[^.]*$/X/'; rm "$x"
timeout -s INT 0.2 sleep 5; echo "timeout $?"
printf '%s\n' {a..e}{1..3} | xargs -n 4 -P 3 echo | sort
X
