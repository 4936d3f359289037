#!/usr/bin/env bash
# In a pod: the shards' records from the object store, merged, and the merged run back into it.
set -euo pipefail
cd "$(dirname "$0")/../.."
rclone copy "artifacts:$RUN" shards --include "/shard-*/**"
code=0
ci/merge.sh shards/* || code=$?
if [ -e target/merged/runs ]; then rclone copy target/merged/runs "artifacts:$RUN/merged"; fi
exit "$code"
