"""The editor a request is from, by what it says of itself. Pure."""

from __future__ import annotations

import re

_OURS = "homespun-lsp"
_PRODUCT = re.compile(
    r"\A([A-Za-z][A-Za-z0-9 ._+-]{0,40})(?:/[^ ]*)?(?: \(([A-Za-z][A-Za-z0-9 ._+-]{0,40})[^)]{0,60}\))?"
)
_VERSION = re.compile(r"[ /]v?\d[\w.+-]*\Z")


def editor_of(user_agent: str) -> str | None:
    """Without versions: they would split every number. Our language server names the editor it works for in brackets;
    others are called by their own names."""
    match = _PRODUCT.match(user_agent)
    if match is None:
        return None
    product, inside = match[1].strip(), match[2]
    named = inside if inside and product == _OURS else product
    return _VERSION.sub("", named).strip() or None
