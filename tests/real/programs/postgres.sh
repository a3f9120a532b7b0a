# needs: /usr/lib/postgresql pgbench psql
# PostgreSQL does not run as the superuser.
if [ "$(id -u)" = 0 ]; then chown 65534:65534 .; as="setpriv --reuid 65534 --regid 65534 --clear-groups"; fi
bin=$(echo /usr/lib/postgresql/*/bin)
$as "$bin/initdb" -D db --no-sync -A trust -U u >log 2>&1 || { tail -5 log >&2; exit 1; }
$as "$bin/pg_ctl" -D db -w -l server.log -o "-k $PWD -h '' -p 15432" start >log 2>&1 || { cat log server.log >&2; exit 1; }
export PGHOST=$PWD PGPORT=15432 PGUSER=u
pgbench -i -s 1 -q postgres >log 2>&1; echo "init $?"
pgbench -c 4 -j 2 -t 200 postgres 2>&1 | grep -E 'transactions actually|failed'
psql -Atc 'select count(*), sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts' postgres
$as "$bin/pg_ctl" -D db -w -m fast stop >log 2>&1; echo "stopped $?"
