"""Files whose names say that they hold secrets: not indexed, not trained on, and never sent by an editor."""

from __future__ import annotations

import re

_NAMES = re.compile(
    r"(\.env(\.[^/]*)?|\.netrc|\.npmrc|\.pypirc|\.htpasswd|\.git-credentials|id_(rsa|dsa|ecdsa|ed25519)"
    r"|kubeconfig|credentials(\.json)?|secrets?\.(ya?ml|json|toml|ini))$",
    re.IGNORECASE,
)
_EXTENSIONS = frozenset(("pem", "key", "p12", "pfx", "jks", "keystore", "kdbx", "tfstate", "ovpn", "har"))


def may_hold_secrets(name: str) -> bool:
    """`name` is that of the file alone."""
    _, dot, extension = name.rpartition(".")
    return _NAMES.match(name) is not None or (bool(dot) and extension.lower() in _EXTENSIONS)
