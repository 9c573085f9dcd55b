"""Whether other people's code may be learned from: permissive licences are named here, everything else stays out.

Inside a company's repository what the repository itself is under is its owner's business and keeps nothing out.

Pure: texts in, verdicts out. Identifiers: https://spdx.org/licenses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

UNKNOWN = "unknown"
HEAD_CHARS = 3_000
"""Where a file says its licence; further down, licences are talked about."""

_LICENCE_FILE = re.compile(r"(?:\w+[-_])?(?:LICEN[CS]E|COPYING|UNLICENSE)(?:[-._][\w.-]+)?", re.IGNORECASE)
_OTHERS = re.compile(r"third|3rd|vendor|bundle|dependenc|external", re.IGNORECASE)
"""In the name of a licence file: it is about code that isn't the repository's own."""
_REUSE = re.compile(r"LICENSES/([\w.+-]+?)(?:\.(?:txt|md|rst))?")
"""https://reuse.software: in this folder at the root a licence's text has the licence's name."""
_NOT_TEXT = re.compile(r"\.(?:py|go|js|ts|tsx|java|rb|rs|c|h|cs|kt|php|sh|json|ya?ml|html)$", re.IGNORECASE)
_PERMISSIVE = frozenset(
    """
    0bsd afl-3.0 apache-1.1 apache-2.0 artistic-2.0 blueoak-1.0.0 bsd-1-clause bsd-2-clause bsd-2-clause-patent
    bsd-3-clause bsd-3-clause-clear bsl-1.0 cc0-1.0 cc-by-3.0 cc-by-4.0 curl isc libpng mit mit-0 mulanpsl-2.0 ms-pl
    ncsa openssl postgresql psf-2.0 python-2.0 unicode-3.0 unicode-dfs-2016 unlicense upl-1.0 vim w3c wtfpl x11 zlib
    zpl-2.1
    """.split()  # noqa: SIM905 (one name a line would be a page)
)
_INNERMOST = re.compile(r"\(([^()]*)\)")
_FINE, _NOT_FINE = "=", "!"
"""What stands in brackets, once it is looked at; no identifier has these characters."""
_VERSION = re.compile(r"-v?\d")
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+()\- \t]{2,200})")
_TEXTS: tuple[tuple[str, str], ...] = (
    # A permissive licence may mention others; what forbids comes first all the same, since it is rarely only mentioned.
    ("commons-clause", r"commons clause"),
    ("fsl-1.1", r"functional source licen[cs]e"),
    ("polyform", r"polyform [\w ]{0,40}licen[cs]e"),
    ("mpl-2.0", r"mozilla public licen[cs]e"),
    ("epl-2.0", r"eclipse public licen[cs]e"),
    ("cddl-1.0", r"common development and distribution licen[cs]e"),
    ("eupl-1.2", r"european union public licen[cs]e"),
    ("sspl-1.0", r"server side public licen[cs]e"),
    ("busl-1.1", r"business source licen[cs]e"),
    ("elastic-2.0", r"elastic licen[cs]e"),
    ("cc-by-nc-4.0", r"attribution-?\s?noncommercial"),
    ("cc-by-sa-4.0", r"attribution-?\s?share-?alike"),
    ("apache-2.0", r"apache licen[cs]e,?\s(?:version\s)?2|licensed under the apache licen[cs]e|apache\.org/licenses/"),
    ("mit", r"permission is hereby granted, free of charge|\bmit licen[cs]e\b|licensed under (?:the )?mit\b"),
    ("bsd-3-clause", r"redistribution and use in source and binary forms|\bbsd[- ](?:\d-clause|style)? ?licen[cs]e"),
    ("isc", r"permission to use, copy, modify, and(?:/or)? distribute this software"),
    ("unlicense", r"released into the public domain"),
    ("zlib", r"this software is provided \W?as-is\W?, without any express or implied warranty"),
    ("bsl-1.0", r"boost software licen[cs]e"),
    ("cc0-1.0", r"\bcc0\b"),
    ("wtfpl", r"do what the fuck you want"),
    ("psf-2.0", r"python software foundation licen[cs]e"),
)
_GNU = re.compile(r"gnu (affero |lesser |library )?general public licen[cs]e|\bgplv?[23]\b")
"""The first mention counts: version 2 of the GPL recommends the LGPL to some in its third sentence."""
_GNU_NAMES = {None: "gpl-3.0", "affero ": "agpl-3.0", "lesser ": "lgpl-3.0", "library ": "lgpl-3.0"}
_KNOWN = tuple((name, re.compile(pattern)) for name, pattern in _TEXTS)
_SHORT = 400
_NAMES = re.compile(
    r"(?<![\w-])(?:MIT|ISC|0BSD|Apache-2\.0|BSD-[23]-Clause|Unlicense|[AL]?GPL|AGPL-3\.0|MPL-2\.0)(?!\w)"
)
_MARKS = ("licen", "permission", "redistribution", "public domain", "cc0", "gpl", "as-is")


def is_licence_file(path: str) -> bool:
    name = path.rpartition("/")[2]
    is_named_so = _LICENCE_FILE.fullmatch(name) is not None or _REUSE.fullmatch(path) is not None
    return is_named_so and not _NOT_TEXT.search(name)


def licence_of(text: str) -> str | None:
    """The licence that the beginning of a text names, an SPDX identifier or expression in lower case; None for none."""
    head = text[:HEAD_CHARS]
    if (match := _SPDX.search(head)) is not None:
        return " ".join(match[1].lower().split()).rstrip("- ")  # the end of a comment: <!-- … -->
    low = head.lower()
    if not any(mark in low for mark in _MARKS):
        return None
    plain = re.sub(r"[\s#*/;\"-]+", " ", low)
    if (gnu := _GNU.search(plain)) is not None:
        return _GNU_NAMES[gnu[1]]
    return next((name for name, pattern in _KNOWN if pattern.search(plain)), None)


def is_permissive(licence: str) -> bool:
    """Of an SPDX expression: one of its alternatives, with everything that this one joins by AND or WITH."""
    return _allows(licence, _is_named)


def _allows(expression: str, is_fine: Callable[[str], bool]) -> bool:
    words = expression.lower()
    while (inner := _INNERMOST.search(words)) is not None:
        words = f"{words[: inner.start()]} {_FINE if _allows(inner[1], is_fine) else _NOT_FINE} {words[inner.end() :]}"
    return any(
        all(name == _FINE or (name != _NOT_FINE and is_fine(name)) for name in _identifiers(alternative))
        for alternative in words.strip("() ").split(" or ")
    )


def _identifiers(expression: str) -> list[str]:
    parts = re.split(r"\s(?:and|or)\s", re.sub("[()]", " ", expression.lower()))
    return [part.partition(" with ")[0].strip() for part in parts]


def _is_named(name: str) -> bool:
    return name.removesuffix("+").removesuffix("-only").removesuffix("-or-later") in _PERMISSIVE


def _family(name: str) -> str:
    """Without version: the texts of two versions begin with the same words."""
    return _VERSION.split(name)[0]


def _is_private(name: str) -> bool:
    """What companies write into their own files; npm's `UNLICENSED` is no licence at all."""
    return name == "unlicensed" or name.startswith("licenseref-")


def licence_of_file(text: str) -> str | None:
    """Of a licence file: some only name a licence or two ("Either MIT or CC-0"), as no line of code would."""
    found = licence_of(text)
    names = _NAMES.findall(text) if found is None and len(text) < _SHORT else []
    joined = " or " if " or " in text else " and "
    return found or joined.join(sorted({n.lower() for n in names})) or None


def folder_licences(texts: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Folder -> licences, from the texts of licence files by path. The root's are under the empty name: all of them
    are the repository's own, unless they are named after other people's code. Without any there, those in `LICENSES/`
    are."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    reuse: set[str] = set()
    for path, text in texts.items():
        folder, _, name = path.rpartition("/")
        if (match := _REUSE.fullmatch(path)) is not None:
            reuse.add(match[1].lower())
        elif folder or not of_others(name):
            found[folder].add(licence_of_file(text) or UNKNOWN)
    if reuse and "" not in found:
        found[""] = reuse
    return {folder: frozenset(licences) for folder, licences in found.items()}


def is_left_out(path: str, text: str, folders: Mapping[str, frozenset[str]]) -> bool:
    """What the file itself says beats its folder, a deeper folder a higher one; several licences of a folder are a
    choice. The root's own are fine, in any version."""
    around = next((folders[at] for at in _upwards(path.rpartition("/")[0]) if at in folders), None)
    said = licence_of(text)
    licences = around if said is None else frozenset((said,))
    if licences is None or any(map(is_permissive, licences)):
        return False
    own = {_family(name) for licence in folders.get("", ()) for name in _identifiers(licence)}

    def is_own(name: str) -> bool:
        return _is_named(name) or _family(name) in own

    if around is None and all(is_own(name) or _is_private(name) for name in _identifiers(said or "")):
        return False  # not where one may choose between a company's licence and an open one: that is somebody's product
    return not all(_allows(licence, is_own) for licence in licences)


def of_others(path: str) -> bool:
    """Whether a licence file is about other people's code, by its name."""
    return _OTHERS.search(path.rpartition("/")[2]) is not None


def _upwards(folder: str) -> Iterable[str]:
    """The folder and those it lies in, without the root."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
