#!/usr/bin/env bash
# What takes too long for every change: each fuzz target, and the kill loops over and over.
#
# Usage: tests/soak.sh [MINUTES]     minutes for each fuzz target and for the kill loops (default 10)
#
# The fuzz targets need `cargo install cargo-fuzz` and a compiler that takes sanitizer flags; without
# them this stops and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

minutes=${1:-10}
command -v cargo-fuzz >/dev/null || {
    echo "soak: cargo-fuzz is missing: cargo install cargo-fuzz" >&2
    exit 1
}

for target in $(sed -n '/\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' fuzz/Cargo.toml); do
    printf '\n+ fuzz %s, %s min\n' "$target" "$minutes"
    RUSTC_BOOTSTRAP=1 cargo fuzz run "$target" -- -max_total_time=$((minutes * 60)) -print_final_stats=1
done

# Clients, storage nodes and mediators killed at random moments; each round has another seed.
end=$((SECONDS + minutes * 60))
while ((SECONDS < end)); do
    FINCRYPT_TEST_SEED=$RANDOM$RANDOM cargo test --workspace --test end_to_end -- \
        interruptions:: crashes:: paid_crashes:: --include-ignored
done
