"""Whether a repository of the allow-list is what the list says, as far as its files tell. Not legal advice; it refuses
when in doubt."""

from __future__ import annotations

from collections.abc import Mapping

from homespun_core.licence import is_permissive, licence_of, licence_of_file, of_others


def problem(texts: Mapping[str, str]) -> str | None:
    """Why a repository with these licence files, by path, is refused; None if it isn't.

    One permissive text at the root is enough (a choice of two licences stands in two files), unless another one there
    forbids it, or can't be told: then the files at issue aren't known.
    """
    own = {path: text for path, text in texts.items() if "/" not in path and not of_others(path)}
    found = {path: licence_of_file(text) for path, text in own.items()}
    for path, licence in found.items():
        if licence is None:
            return f"has a licence file that isn't known ({path})"
        if not is_permissive(licence):
            return f"has a licence file that isn't permissive ({path}: {licence})"
    return None if found else "no permissive licence file at its root"


def is_copyleft(text: str) -> bool:
    """Whether the top of a source file says so."""
    licence = licence_of(text)
    return licence is not None and not is_permissive(licence)
