# Write-ahead logging with two writers.
# needs: sqlite3
sqlite3 x.db 'pragma journal_mode=wal; create table t(w, n, primary key(w, n));'
writer() { i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo ".timeout 20000"; echo "begin immediate; insert into t values($1,$i); commit;"; done | sqlite3 x.db; }
writer 1 & writer 2 & wait
sqlite3 x.db 'select w, count(*), sum(n) from t group by w; pragma integrity_check; pragma wal_checkpoint(truncate);'
