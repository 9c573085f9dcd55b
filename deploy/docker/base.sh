#!/bin/sh
# Prints the base image by its digest, as its registry has it now: base.sh [IMAGE:TAG]
#   docker build --build-arg PYTHON_IMAGE="$(deploy/docker/base.sh)" -f deploy/docker/Dockerfile --target cpu -t homespun .
# Without IMAGE:TAG it is the Dockerfile's. Needs skopeo, or Docker with buildx.
set -eu
image=${1:-$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$(dirname "$0")/Dockerfile")}
if command -v skopeo >/dev/null 2>&1; then
    digest=$(skopeo inspect --format '{{.Digest}}' "docker://$image")
elif command -v docker >/dev/null 2>&1; then
    digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
else
    echo "base: neither skopeo nor docker is here to ask the registry of $image" >&2; exit 1
fi
echo "${image%:*}@$digest"
