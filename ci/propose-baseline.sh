#!/usr/bin/env bash
# Makes a pull request of a run's results: ci/propose-baseline.sh FOLDER LABEL. Only run.json is kept in the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
found=$(find "$1" -name run.json)
if [ "$(wc -l <<< "$found")" != 1 ] || [ -z "$found" ]; then
    echo "$1 must hold one run.json" >&2
    exit 2
fi
what="No baseline before this one."
if [ -e ci/baseline/run.json ]; then
    what=$(cargo xtask compare ci/baseline "$(dirname "$found")" || true)
fi
mkdir -p ci/baseline
cp "$found" ci/baseline/run.json
git switch --create "baseline-$2"
git add ci/baseline/run.json
git -c user.name=softoff -c user.email=softoff@localhost commit --message "Baseline from run $2"
git push origin "baseline-$2"
gh pr create --head "baseline-$2" --title "Baseline from run $2" --body "$what"
