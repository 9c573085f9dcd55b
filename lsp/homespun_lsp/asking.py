"""Whether to ask, and for how much: one line, or a block. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from homespun_core.brackets import OPENERS, scan
from homespun_core.languages import language_named
from homespun_lsp.context import Place, rest_of_line
from homespun_lsp.documents import Step

Reason = Literal[
    "off",
    "language is off",
    "huge file",
    "may hold secrets",
    "ignored",
    "several cursors",
    "middle of a word",
    "text to the right",
    "after a closer",
    "server away",
    "not configured",
]

MAX_FILE_CHARS = 1_000_000
"""Larger files are data or generated; every keystroke would copy them."""
_CLOSING = frozenset(")]}>\"'`;:,")
_MAX_RIGHT_OF_CURSOR = 8
"""As llama.vim: with more text than this to the right, the line is being edited, not written."""
_FINISHED = tuple(")]};\"'`")
_SCANNED_CHARS = 4_000
_MAX_AT_ONCE = 2
"""Characters that one key puts in at each cursor: itself, perhaps with the bracket that closes it."""

_ALWAYS_OPEN = tuple(OPENERS)
_KEYWORD_BLOCK = re.compile(
    r"\s*(?:async\s+)?(?:def|class|if|elif|else|for|while|with|try|except|finally|match|case)\b"
)
_WORDS_THAT_OPEN = {
    "ruby": re.compile(
        r"\b(?:do|then|else|begin|ensure)(?:\s*\|[^|]*\|)?\Z|\s*(?:def|class|module|if|unless|while)\s.*\Z"
    ),
    "lua": re.compile(r"\b(?:do|then|else|repeat)\Z|\bfunction\b[^()]*\([^()]*\)\Z"),
    "bash": re.compile(r"\b(?:do|then|else)\Z"),
    "elixir": re.compile(r"(?:\bdo|->)\Z"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What is known of a file before its text is looked at."""

    is_language_off: bool = False
    may_hold_secrets: bool = False
    is_ignored: bool = False
    has_several_cursors: bool = False


def why_not(place: Place, file: File, *, invoked: bool, is_known: bool = False) -> Reason | None:
    """None: ask. Somebody who asks by hand gets an answer anywhere but in files that must not leave the editor; while
    typing, only where something is likely to be missing, or what was suggested before goes on (`is_known`)."""
    if len(place.text) > MAX_FILE_CHARS:
        return "huge file"
    if file.may_hold_secrets:
        return "may hold secrets"
    if file.is_ignored:
        return "ignored"
    if invoked:
        return None
    if file.is_language_off:
        return "language is off"
    if file.has_several_cursors:
        return "several cursors"
    return None if is_known else _nothing_missing(place)


def _nothing_missing(place: Place) -> Reason | None:
    rest = rest_of_line(place.text, place.offset)
    if rest and (rest[0].isalnum() or rest[0] == "_"):
        return "middle of a word"
    if sum(1 for c in rest if c not in _CLOSING and not c.isspace()) > _MAX_RIGHT_OF_CURSOR:
        return "text to the right"
    if not rest.strip() and _is_finished(place):
        return "after a closer"
    return None


def _is_finished(place: Place) -> bool:
    """Right behind a closer there is nothing to say but the next line; behind a quote that opens a string there is, and
    whoever puts a blank there goes on."""
    line = line_before(place.text, place.offset)
    if place.num_chosen or not line.endswith(_FINISHED):
        return False
    return line[-1] not in "\"'`" or not scan(line, place.document.language).string


def ahead_of(place: Place, completion: str) -> Place:
    """Where something will be wanted once that is accepted: right behind it, or on the line that the editor begins
    below it with the same indentation."""
    then = place.after(completion)
    if _nothing_missing(then) != "after a closer":
        return then
    line = line_before(then.text, then.offset)
    return place.after(completion + "\n" + line[: len(line) - len(line.lstrip())])


def is_language_off(language: str, chosen: Mapping[str, bool]) -> bool:
    """`chosen` says it by an editor's or our name of the language, `*` for all that aren't named."""
    known = language_named(language)
    names = (language, known.name if known else language, "*")
    return not next((chosen[name] for name in names if name in chosen), True)


def is_typed_at_several_cursors(steps: Sequence[Step]) -> bool:
    """As editors tell of one key pressed at several cursors: equal edits, in one notification."""
    edits = [(step.edit.added, step.edit.end - step.edit.start) for step in steps]
    return len(edits) > 1 and len(set(edits)) == 1 and len(edits[0][0].strip()) <= _MAX_AT_ONCE


def is_key(steps: Sequence[Step]) -> bool:
    """Whether a change comes from one key, as far as one can tell."""
    return (
        len(steps) == 1 and len(steps[0].edit.added.strip()) + steps[0].edit.end - steps[0].edit.start <= _MAX_AT_ONCE
    )


def wants_block(text: str, offset: int, language: str) -> bool:
    """Several lines only where a block is being opened, or on an empty line in one; else the rest of the line."""
    if rest_of_line(text, offset).strip(" \t" + "".join(_CLOSING)):
        return False
    before = line_before(text, offset)
    if before.strip():
        return _opens_block(before, language)
    above = text[: offset - len(before)].rstrip()
    last_line = above[above.rfind("\n") + 1 :]
    return bool(above) and (bool(before) or _opens_block(last_line, language))


def _opens_block(line: str, language: str) -> bool:
    known = language_named(language)
    code, name = line.rstrip(), known.name if known else language
    state = scan(code, language)
    if state.string or state.in_comment:
        return False
    if code.endswith(_ALWAYS_OPEN):
        return True
    if name == "python":
        return code.endswith(":") and not state.opened and _KEYWORD_BLOCK.match(code) is not None
    words = _WORDS_THAT_OPEN.get(name)
    return words is not None and words.search(code) is not None


def line_before(text: str, offset: int) -> str:
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    return text[max(start, offset - _SCANNED_CHARS) : offset]
