# Perl's own tests, in a built source tree.
# needs: $REAL_SOURCES/perl-src/perl
# compare: lines
# seconds: 1500
# There is no terminal. Natively that is noticed in a container only.
export PERL_SKIP_TTY_TEST=1
cp -a "$REAL_SOURCES/perl-src" perl && cd perl/t || exit 1
TEST_JOBS=2 ./perl harness base/*.t cmd/*.t comp/*.t io/*.t op/*.t uni/*.t lib/*.t >log 2>&1
status=$?
grep -E '\.+ ok$' log | sed 's/ *\.* ok$//' | sort
tail -3 log >&2; grep -A 30 'Test Summary' log >&2
exit $status
