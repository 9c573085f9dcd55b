"""Paths out of the addresses that editors give their documents."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

_DRIVE = re.compile(r"/[A-Za-z](?::|\|)(?=/|$)")


def path_of(uri: str, *, is_windows: bool = os.name == "nt") -> str | None:
    """None for what is no file: untitled documents, output, files of other machines' protocols.

    The case of a drive's letter is the editor's whim (`c%3A`, `C:`), and so is which characters are encoded; `;` and,
    encoded, `?` and `#` are part of names.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # as of brackets that hold no address
        return None
    path = unquote(parts.path)
    if parts.scheme != "file" or "\0" in path or not (path or parts.netloc):
        return None
    if parts.netloc not in ("", "localhost"):
        path = f"//{unquote(parts.netloc)}{path}"  # a share
    elif _DRIVE.match(path):
        path = f"{path[1].lower()}:{path[3:] or '/'}"
    return path.replace("/", "\\") if is_windows else path
