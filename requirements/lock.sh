#!/usr/bin/env bash
# Resolves pyproject.toml into hash-locked requirements, one file per group. usage: lock.sh [uv]
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${1:-uv}
# The files hold versions and hashes only, whatever this machine's pip is configured with.
unset PIP_FIND_LINKS UV_FIND_LINKS

lock() {
  local group=$1 source=$2
  shift 2
  # Whoever needs torch finds it installed: it belongs to the machine, not to a lock.
  "$uv" pip compile "$source" "$@" --overrides <(echo "torch; python_version < '3'") --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-header --output-file "requirements/$group.txt"
  if grep -qE '^torch|://' "requirements/$group.txt"; then
    echo "requirements/$group.txt names torch or an address: install torch apart ('make TORCH=...')" >&2
    exit 1
  fi
}

lock serve pyproject.toml
lock train pyproject.toml --extra train
lock dev pyproject.toml --extra dev
lock objects pyproject.toml --extra s3 --extra gcs
lock store-test pyproject.toml --extra store-test
lock ray pyproject.toml --extra ray
# Clients that others wrote, whose pins clash: an environment for each.
for source in requirements/*.in; do
  lock "$(basename "$source" .in)" "$source"
done
