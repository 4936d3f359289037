#!/usr/bin/env bash
# In a pod of an Indexed Job: its shard, then its records into the object store. The Job's exit code is the run's.
# ci/kubernetes/shard.sh OF [options of `cargo xtask run`]
set -euo pipefail
cd "$(dirname "$0")/../.."
of=$1
shift
index=$((JOB_COMPLETION_INDEX + 1))
code=0
ci/shard.sh "$index" "$of" "$@" || code=$?
# An earlier attempt of this index is replaced.
rclone sync target/shards/runs "artifacts:$RUN/shard-$index"
exit "$code"
