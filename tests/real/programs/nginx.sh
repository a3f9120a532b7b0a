# needs: nginx wrk ab curl
mkdir www; head -c 100000 /bin/ls >www/f
cat >n.conf <<X
worker_processes 2; daemon off; pid $PWD/n.pid; error_log $PWD/e.log; $([ "$(id -u)" != 0 ] || echo 'user root;')
events { worker_connections 256; }
http { access_log off; sendfile on; client_body_temp_path $PWD/b; proxy_temp_path $PWD/p; fastcgi_temp_path $PWD/f; uwsgi_temp_path $PWD/u; scgi_temp_path $PWD/s;
server { listen 127.0.0.1:18080; root $PWD/www; } }
X
nginx -p "$PWD" -c "$PWD/n.conf" 2>/dev/null & s=$!
i=0; until curl -so /dev/null http://127.0.0.1:18080/f; do i=$((i+1)); [ $i -lt 200 ] || exit 1; sleep 0.05; done
curl -s http://127.0.0.1:18080/f | sha256sum; curl -so /dev/null -w '%{http_code}\n' http://127.0.0.1:18080/none
wrk -t2 -c16 -d2s http://127.0.0.1:18080/f >w && grep -c 'Socket errors' w
ab -q -n 2000 -c 8 http://127.0.0.1:18080/f 2>/dev/null | grep -E '^(Complete|Failed)'
kill -QUIT $s; wait $s; echo "server $?"
