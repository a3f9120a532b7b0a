# SQLite's own tests, in a built source tree.
# needs: $REAL_SOURCES/sqlite3-src/testfixture
# seconds: 1800
"$REAL_SOURCES/sqlite3-src/testfixture" "$REAL_SOURCES/sqlite3-src/test/veryquick.test" >log 2>&1
status=$?
grep -E 'errors out of' log; grep -E '^!Failures' log
exit $status
