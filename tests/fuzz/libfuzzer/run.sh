#!/bin/sh
# run.sh TARGET [libFuzzer option]…: a long run of a target. New inputs go below target/fuzz, failures too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=$1
shift
# Coverage for libFuzzer is an unstable option of the compiler, and taken by a stable one with RUSTC_BOOTSTRAP.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Ctarget-feature=-crt-static --cfg fuzzing"
RUSTFLAGS=$(echo "$RUSTFLAGS" | tr '\n' ' ')
target=$here/../../../target/fuzz
cd "$here"
cargo build --release --target-dir "$target"
mkdir -p "$target/$name" "$here/../corpus/$name"
FUZZ_TARGET=$name exec "$target/x86_64-unknown-linux-gnu/release/libfuzzer" -artifact_prefix="$target/$name-" \
    -max_len=8192 "$@" "$target/$name" "$here/../corpus/$name"
