#!/usr/bin/env bash
# Fuzzes both sides of the NVMe queues: run.sh [RUNS] makes a fixed number of runs of each target by random numbers, the
# same on every machine. It needs neither cargo-fuzz nor a sanitizer.
#
# By hand and for hours, with coverage and AddressSanitizer:
#   RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir engine/fuzz --features libfuzzer controller -- -max_len=4000 -timeout=20
set -euo pipefail
cd "$(dirname "$0")"
cargo run --quiet --release --locked --bin drive -- "${1:-8000}"
