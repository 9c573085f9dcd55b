"""Whether a repository of the allow-list is what the list says, as far as its files tell. Not legal advice; it refuses
when in doubt."""

from __future__ import annotations

from collections.abc import Sequence

from homespun_core.licence import is_permissive, licence_of


def problem(texts: Sequence[str]) -> str | None:
    """Why a repository with these licence files is refused; None if it isn't.

    One permissive text is enough (a choice of two licences stands in two files), unless the top of another one forbids
    it: then the files at issue aren't known.
    """
    found = [licence for text in texts if (licence := licence_of(text)) is not None]
    if not all(map(is_permissive, found)):
        return "has a copyleft licence file"
    return None if found else "no permissive licence file at its root"


def is_copyleft(text: str) -> bool:
    """Whether the top of a source file says so."""
    licence = licence_of(text)
    return licence is not None and not is_permissive(licence)
