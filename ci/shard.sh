#!/usr/bin/env bash
# One shard of a run, the same on every engine: ci/shard.sh INDEX OF [options of `cargo xtask run`].
# Records go to target/shards. Exit codes are those of `cargo xtask run`.
set -euo pipefail
index=$1 of=$2
shift 2
cd "$(dirname "$0")/.."
options=(--known-issues ci/known-issues.toml --out target/shards)
# The same file on every machine, so that all work out the same shards.
if [ -e ci/baseline/run.json ]; then options+=(--durations ci/baseline); fi
exec cargo xtask run --shard "$index/$of" "${options[@]}" "$@"
