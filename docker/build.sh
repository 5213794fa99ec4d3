#!/usr/bin/env bash
# Builds the image. usage: build.sh [TAG]
#   BASE             another base image, best by its digest (default: the Dockerfile's)
#   GROUP            objects: with clients of S3 and Google Cloud Storage; ray: with Ray Serve
#   PLATFORMS        linux/amd64,linux/arm64: for several at once (needs buildx)
#   OPTIONS          more options of docker build, such as --no-cache
#   DOCKER_NETWORK   network of the build, `host` where the engine has no bridge
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-convserve:local}

if ! docker info >/dev/null 2>&1; then
  echo "no container engine answers: install Docker, or point DOCKER_HOST at one" >&2
  exit 1
fi
options=(--network "${DOCKER_NETWORK:-default}")
[ -n "${BASE:-}" ] && options+=(--build-arg "BASE=$BASE")
[ -n "${GROUP:-}" ] && options+=(--build-arg "GROUP=$GROUP")
[ -n "${PLATFORMS:-}" ] && options+=(--platform "$PLATFORMS")
# Two builds of one commit have the same layers over the same base.
options+=(--build-arg "SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")
options+=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
read -ra more <<<"${OPTIONS:-}"
options+=("${more[@]}")
# What this host's pip needs to reach its index, as secrets: neither file enters the image.
[ -r /etc/pip.conf ] && options+=(--secret "id=pipconf,src=/etc/pip.conf")
[ -r /etc/ssl/certs/ca-certificates.crt ] && options+=(--secret "id=ca,src=/etc/ssl/certs/ca-certificates.crt")
DOCKER_BUILDKIT=1 docker build --tag "$tag" "${options[@]}" .
docker image inspect --format '{{.Size}}' "$tag" \
  | awk -v tag="$tag" '{printf "built %s, %.0f MB\n", tag, $1 / 1e6}'
