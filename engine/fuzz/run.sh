#!/usr/bin/env bash
# Fuzzes both sides of the NVMe queues: run.sh [RUNS] makes a fixed number of runs against the controller by random numbers,
# the same on every machine, and an eighth of them against the driver. It needs neither cargo-fuzz nor a sanitizer.
#
# By hand and for hours, with coverage and AddressSanitizer:
#   RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir engine/fuzz --features libfuzzer controller -- -max_len=4000 -timeout=20
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-8000}
# The workspace's, which has most of what is needed already.
target=${CARGO_TARGET_DIR:-../../target}
cargo run --quiet --locked --target-dir "$target" --bin drive -- "$runs" controller
# A controller that freezes or goes away takes the time of the driver's deadlines.
cargo run --quiet --locked --target-dir "$target" --bin drive -- $(((runs + 7) / 8)) driver
