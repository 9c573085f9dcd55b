#!/bin/sh
# Is this bundle what was made? ./verify.sh [PUBLIC_KEY]
# PUBLIC_KEY is an OpenSSH public key (ssh-ed25519 ...), got by another way than the bundle. Needs sha256sum, and ssh-keygen for the key.
set -eu
cd "$(dirname "$0")"
if [ $# -gt 0 ]; then
    [ -f SHA256SUMS.sig ] || { echo "verify: SHA256SUMS.sig is missing: this bundle was not signed" >&2; exit 1; }
    signers=$(mktemp)
    trap 'rm -f "$signers"' EXIT
    { printf 'homespun '; cat -- "$1"; } >"$signers"
    ssh-keygen -Y verify -f "$signers" -I homespun -n homespun-bundle -s SHA256SUMS.sig <SHA256SUMS >/dev/null ||
        { echo "verify: SHA256SUMS was not signed by the key in $1" >&2; exit 1; }
    echo "verify: the signature is right"
else
    echo "verify: no public key given, so the checksums say only that nothing was damaged" >&2
fi
sha256sum --quiet --strict --check SHA256SUMS || { echo "verify: files differ from SHA256SUMS (above); copy the bundle again" >&2; exit 1; }
listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS)
there=$(find . ! -type d ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | LC_ALL=C sort)
[ "$listed" = "$there" ] || { echo "verify: there are files that SHA256SUMS doesn't list" >&2; exit 1; }
echo "verify: every file is as it was made"
