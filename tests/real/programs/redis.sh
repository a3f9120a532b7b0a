# needs: redis-server redis-cli redis-benchmark
redis-server --port 16379 --bind 127.0.0.1 --dir "$PWD" --appendonly yes >log 2>&1 & s=$!
i=0; until redis-cli -p 16379 ping >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done
redis-benchmark -p 16379 -n 5000 -c 20 -q -t set,get,incr,lpush,mset >/dev/null && echo benchmark
redis-cli -p 16379 get counter:__rand_int__; redis-cli -p 16379 llen mylist
redis-cli -p 16379 save; redis-cli -p 16379 bgrewriteaof; redis-cli -p 16379 shutdown nosave; wait $s; echo "server $?"
