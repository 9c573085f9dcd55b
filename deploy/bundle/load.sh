#!/bin/sh
# Loads the images of this bundle: ./load.sh [REGISTRY]
# With REGISTRY they are pushed there (skopeo); without, into this machine's podman, containerd or Docker.
set -eu
cd "$(dirname "$0")"
[ -f images.txt ] || { echo "load: this bundle has no images" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
if [ $# -gt 0 ] && ! have skopeo; then
    echo "load: pushing to $1 needs skopeo" >&2; exit 1
fi
while read -r archive name; do
    echo "load: $name from $archive"
    if [ $# -gt 0 ]; then
        skopeo copy --preserve-digests "oci-archive:$archive" "docker://$1/$name"
        echo "load: $1/${name%:*}@$(skopeo inspect --format '{{.Digest}}' "oci-archive:$archive")"
    elif have podman; then podman load --input "$archive"
    elif have ctr; then ctr --namespace k8s.io images import "$archive"
    elif have docker && have skopeo; then skopeo copy "oci-archive:$archive" "docker-daemon:$name"
    elif have docker; then docker load --input "$archive"
    else echo "load: none of podman, ctr, docker is here" >&2; exit 1; fi
done <images.txt
