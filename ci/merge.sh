#!/usr/bin/env bash
# Brings shards together: ci/merge.sh FOLDER... . Compares with the baseline ($BASELINE, ci/baseline), if there is one,
# takes the run into the history, and ends with the worst of their exit codes: 1 failed or worse than the baseline, 3
# missing or undecided.
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=${BASELINE:-ci/baseline}
code=0
cargo xtask report merge --out target/merged "$@" || code=$?
# Wrong usage, or nothing to merge: there is no merged run to go on with.
if [ "$code" = 2 ] || [ ! -e target/merged/latest/run.json ]; then exit "$code"; fi
merged=$(readlink -f target/merged/latest)
if [ -e "$baseline/run.json" ]; then
    compared=0
    # Four looks: the shards' repeats were doubled up to three times where that was needed to decide.
    cargo xtask compare --looks 4 --json "$baseline" "$merged" > "$merged/comparison.json" || compared=$?
    cargo xtask compare --looks 4 "$baseline" "$merged" || true
    cargo xtask report "$merged"
    if [ "$compared" = 1 ] || [ "$code" = 0 ]; then code=$compared; fi
fi
mkdir -p history
cargo xtask history import --db history/history.sqlite "$merged"
cargo xtask history --db history/history.sqlite --svg history/nights.svg > /dev/null
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$merged/summary.md" >> "$GITHUB_STEP_SUMMARY"; fi
exit "$code"
