# A Debian source package, built by two jobs.
# needs: gcc make $REAL_SOURCES/hello-src
# seconds: 900
cp -a "$REAL_SOURCES/hello-src" hello && cd hello || exit 1
./configure >log 2>&1 && make -j2 >>log 2>&1 && make check >>log 2>&1
status=$?
[ $status = 0 ] || tail -5 log >&2
grep -E '^# (TOTAL|PASS|FAIL|ERROR):' log; ./hello
exit $status
