#!/usr/bin/env bash
# Fuzzes the parsers: run.sh [RUNS] makes a fixed number of runs of each target by random numbers, the same on every
# machine. It needs neither cargo-fuzz nor a sanitizer.
#
# By hand and for hours, with coverage and AddressSanitizer:
#   extents/fuzz/seeds.sh
#   RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir extents/fuzz --features libfuzzer ext4 -- -max_len=400 -timeout=20
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-8000}
# The workspace's, which has most of what is needed already.
target=${CARGO_TARGET_DIR:-../../target}
if [[ -z $(ls seeds/xfs 2>/dev/null) ]]; then ./seeds.sh; fi
cargo run --quiet --locked --target-dir "$target" --bin drive -- "$runs"
