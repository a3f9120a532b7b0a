# needs: busybox
busybox ash -c 'i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo $i; done | busybox awk "{s+=\$1} END {print s}"; trap "echo bye" EXIT'
busybox seq 1 20 | busybox sed -n '/5$/p;s/^1\(.\)/<\1>/p'
busybox find /etc -name passwd -maxdepth 1 -exec busybox ls {} \;
busybox tar c /etc/default 2>/dev/null | busybox tar t | busybox sort | busybox sha256sum
