#!/usr/bin/env bash
# One shard of a run, the same on every engine: ci/shard.sh INDEX OF [options of `cargo xtask run`].
# Records go to target/shards; $BASELINE is the baseline's folder (ci/baseline). Exit codes are those of `cargo xtask run`.
set -euo pipefail
index=$1 of=$2
shift 2
cd "$(dirname "$0")/.."
baseline=${BASELINE:-ci/baseline}
options=(--known-issues ci/known-issues.toml --out target/shards)
if [ -e "$baseline/run.json" ]; then
    # The same file on every machine, so that all work out the same shards. What differs from it, and may be chance, is
    # repeated: 3, 6, 12, 20 times.
    options+=(--durations "$baseline" --baseline "$baseline" --until-decided 20)
fi
exec cargo xtask run --shard "$index/$of" "${options[@]}" "$@"
