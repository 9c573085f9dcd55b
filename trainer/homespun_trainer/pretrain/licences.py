"""What a licence text says, as far as words in it tell: permissive, copyleft, or neither. Not legal advice; it refuses
when in doubt."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAME = re.compile(r"^(?:\w+[-_])?(?:licen[cs]e|copying|unlicense)(?:[._-][\w.-]+)?$", re.IGNORECASE)
_PERMISSIVE = re.compile(
    r"Permission is hereby granted, free of charge|Redistribution and use in source and binary forms|Apache License"
    r"|Python Software Foundation|\bMIT License\b|BSD[- ]\d-Clause|3-clause BSD|licen[cs]ed? under (?:the )?(?:MIT|BSD"
    r"|Apache)|Permission to use, copy, modify,? and(?:/or)? distribute|free and unencumbered software",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(
    r"GNU (?:Lesser |Library |Affero )?General Public Licen[cs]e|SPDX-License-Identifier:\s*\(?(?:[LA]?GPL|MPL|EUPL"
    r"|CDDL|EPL|SSPL|BUSL|OSL|CC-BY-(?:NC|SA))|Mozilla Public License|Business Source License"
    r"|Server Side Public License|Eclipse Public License|Commons Clause"
    r"|Creative Commons Attribution-(?:NonCommercial|ShareAlike)",
    re.IGNORECASE,
)
_HEAD_CHARS = 6_000
"""A licence says what it is at its top; below, it may mention others (Apache-2.0's list of a project's parts does)."""


def is_licence_name(name: str) -> bool:
    """Of a file at the root of a repository."""
    return _NAME.match(name) is not None


def problem(texts: Sequence[str]) -> str | None:
    """Why a repository with these licence files is refused; None if it isn't.

    One permissive text is enough (a choice of two licences stands in two files), unless the top of another one is
    copyleft: then the files at issue aren't known.
    """
    heads = [text[:_HEAD_CHARS] for text in texts]
    if any(_COPYLEFT.search(head) and not _PERMISSIVE.search(head) for head in heads):
        return "has a copyleft licence file"
    if not any(_PERMISSIVE.search(head) for head in heads):
        return "no permissive licence file at its root"
    return None


def is_copyleft(text: str) -> bool:
    """Whether the top of a source file says so."""
    return _COPYLEFT.search(text[:_HEAD_CHARS]) is not None
