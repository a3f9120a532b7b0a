#!/usr/bin/env bash
# The kvm platform's own tests, and families of the compatibility suite, on an emulated KVM host: some minutes.
#
#   tests/kvm/run.sh [FAMILY...]
#
# Wants what emulated_host.sh wants. Builds what it runs. $KVM_LIMIT: seconds that the machine may run.
set -euo pipefail
cd "$(dirname "$0")/../.."

families=("$@")
[ ${#families[@]} -gt 0 ] || families=(exec futex memory mmap pipes processes ptrace signals signals_faults threads)
cargo build --quiet --profile fast -p cli
built() {
    cargo test --quiet --profile fast -p platform "$@" --no-run --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
units=$(built --lib) tests=$(built --test platforms)
lazaret=$(dirname "$(dirname "$tests")")/lazaret

payload=$(mktemp -d)
trap 'rm -rf "$payload"' EXIT
mkdir "$payload/programs"
cp "$lazaret" tests/kvm/cases.sh "$payload/"
cp "$units" "$payload/units"
cp "$tests" "$payload/platforms"
for family in "${families[@]}"; do
    gcc -std=gnu17 -O1 -pthread -static -o "$payload/programs/$family" "tests/programs/$family.c" -lm -lrt -lutil
done
tests/kvm/emulated_host.sh -t "${KVM_LIMIT:-900}" "$payload" \
    './units kvm:: --test-threads 1 && ./platforms kvm:: --test-threads 1 && sh cases.sh'
