"""Files whose names say that they hold secrets: not indexed, not trained on, and never sent by an editor."""

from __future__ import annotations

import re

_NAMES = re.compile(
    r"\.env(\..*)?|\.envrc|\.netrc|\.npmrc|\.pypirc|\.pgpass|\.htpasswd|\.git-credentials"
    r"|id_(rsa|dsa|ecdsa|ed25519)(_sk)?|kubeconfig|credentials(\.json)?|secrets?\.(ya?ml|json|toml|ini)"
    r"|service[-_]?accounts?([-_]?key)?\.json|.*\.tfvars\.json",
    re.IGNORECASE | re.DOTALL,
)
_EXTENSIONS = frozenset(
    ("pem", "key", "p12", "pfx", "jks", "keystore", "kdbx", "ppk", "env", "tfstate", "tfvars", "ovpn", "har")
)
_COPY = re.compile(r"(~|\.(bak|backup|old|orig|save))\Z", re.IGNORECASE)
"""What editors and people put behind the name of a file that they keep a copy of."""


def may_hold_secrets(name: str) -> bool:
    """`name` is that of the file alone."""
    original = _COPY.sub("", name)
    _, dot, extension = original.rpartition(".")
    return _NAMES.fullmatch(original) is not None or (bool(dot) and extension.lower() in _EXTENSIONS)
