#!/usr/bin/env bash
# Brings shards together: ci/merge.sh FOLDER... . Compares with the baseline, if there is one, takes the run into the
# history, and ends with the worst of their exit codes: 1 failed or worse than the baseline, 3 missing or undecided.
set -euo pipefail
cd "$(dirname "$0")/.."
code=0
cargo xtask report merge --out target/merged "$@" || code=$?
# Wrong usage, or nothing to merge: there is no merged run to go on with.
if [ "$code" = 2 ] || [ ! -e target/merged/latest/run.json ]; then exit "$code"; fi
merged=$(readlink -f target/merged/latest)
if [ -e ci/baseline/run.json ]; then
    compared=0
    cargo xtask compare --json ci/baseline "$merged" > "$merged/comparison.json" || compared=$?
    cargo xtask compare ci/baseline "$merged" || true
    cargo xtask report "$merged"
    if [ "$compared" = 1 ] || [ "$code" = 0 ]; then code=$compared; fi
fi
mkdir -p history
cargo xtask history import --db history/history.sqlite "$merged"
cargo xtask history --db history/history.sqlite --svg history/nights.svg > /dev/null
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$merged/summary.md" >> "$GITHUB_STEP_SUMMARY"; fi
exit "$code"
