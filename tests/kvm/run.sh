#!/usr/bin/env bash
# The kvm platform's own tests, and families of the compatibility suite, on an emulated KVM host: some minutes.
#
#   tests/kvm/run.sh [FAMILY...]
#
# Wants what emulated_host.sh wants. Builds what it runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

families=("$@")
[ ${#families[@]} -gt 0 ] || families=(exec futex memory mmap pipes processes ptrace signals signals_faults threads)
cargo build --quiet --profile fast -p cli
tests=$(cargo test --quiet --profile fast -p platform --test platforms --no-run --message-format json |
    sed -n 's/.*"executable":"\([^"]*platforms-[^"]*\)".*/\1/p' | tail -1)
lazaret=$(dirname "$(dirname "$tests")")/lazaret

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
mkdir "$payload/programs"
cp "$lazaret" tests/kvm/cases.sh "$payload/"
cp "$tests" "$payload/platforms"
for family in "${families[@]}"; do
    gcc -std=gnu17 -O1 -pthread -static -o "$payload/programs/$family" "tests/programs/$family.c" -lm -lrt -lutil
done
tests/kvm/emulated_host.sh -t 900 "$payload" './platforms kvm:: --test-threads 1 && sh cases.sh'
