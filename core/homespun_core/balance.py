"""Where a completion has to end so that brackets and strings fit what stands around it. Pure; every rule only cuts.

Files are seen through a window: what is opened above it or closed below it is unknown, and is never held against a
completion. Nor are brackets in a language that isn't in the table: they may be prose (`1) first`), or stand behind a
`#` that begins no comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from homespun_core.brackets import OPENER_OF, OPENERS, Scan, brackets, breaks_off, ends_a_pattern, scan
from homespun_core.languages import language_named
from homespun_core.statements import whole_after

_WINDOW = 8_000
"""Characters before and after the cursor: half a millisecond to read, and most functions are shorter."""


def before_stray_closer(prefix: str, text: str, suffix: str, language: str | None) -> str:
    """Stop before a bracket that closes nothing, or closes what the suffix closes already."""
    state, is_whole = _before(prefix, language)
    if state.string or state.in_comment or language_named(language) is None:
        return text
    above, own = list(state.opened), 0
    spare = len(above) - _num_closed_below(state, suffix, language)
    for at, bracket in brackets(text, language, state):
        if bracket in OPENERS:
            above.append(bracket)
            own += 1
        elif ends_a_pattern(bracket, above, language):
            continue
        elif own:
            own -= 1
            if above.pop() != OPENER_OF[bracket]:
                return text[:at]
        elif above:
            spare -= 1
            if spare < 0 or above.pop() != OPENER_OF[bracket]:
                return text[:at]
        elif is_whole:
            return text[:at]
    return text


def before_doubled_quote(prefix: str, text: str, line_after: str, language: str | None) -> str:
    """Stop before the quote that ends the string the cursor is in, where the line has it already."""
    state, _ = _before(prefix, language)
    quote = state.string
    if not quote or not line_after.startswith(quote) or scan(text, language, state).string == quote:
        return text
    head, found, _ = text.partition(quote)
    return head if found else text


def to_clean_end(prefix: str, text: str, suffix: str, language: str | None) -> str:
    """Without last lines that leave something open, or half a statement of Python, which earlier lines don't; one line
    stays as it is, since the next is what somebody writes then."""
    state, _ = _before(prefix, language)
    lines, known = text.rstrip().split("\n"), language_named(language)
    if len(lines) < 2 or state.string or known is None:
        return text
    open_after = _open_after_each(lines, language)
    closed = [n for n, count in enumerate(open_after) if not count and lines[n].strip()]
    clean = closed
    if known.name == "python" and not state.opened:
        begun = [prefix[prefix.rfind("\n") + 1 :] + lines[0], *lines[1:]]
        below = next((line for line in suffix.split("\n")[1:] if line.strip()), "")
        clean = [n for n in whole_after(begun, open_after, below) if n in closed]
    kept = max(clean or (closed if open_after[-1] else ()), default=None)
    if kept is None and open_after[-1] > open_after[-2] and any(line.strip() for line in lines[:-1]):
        kept = len(lines) - 2
    return text if kept is None else "\n".join(lines[: kept + 1])


def _open_after_each(lines: Sequence[str], language: str | None) -> list[int]:
    """How much of their own is open after each line: brackets and strings."""
    state, counts = Scan(), []
    for line in lines:
        is_half = breaks_off(line, language, state)
        state = scan(f"{line}\n", language, state)
        counts.append(len(state.opened) + (bool(state.string) or is_half))
    return counts


def _num_closed_below(state: Scan, suffix: str, language: str | None) -> int:
    """How many of the open brackets the suffix closes. What it closes comes innermost first; a bracket of another kind
    in between is one that nobody has closed yet."""
    above, count = list(state.opened), 0
    for closer in _closed_by(suffix[:_WINDOW], language):
        if ends_a_pattern(closer, above, language):
            continue
        while above and above[-1] != OPENER_OF[closer]:
            above.pop()
        if above:
            above.pop()
            count += 1
    return count


def _before(prefix: str, language: str | None) -> tuple[Scan, bool]:
    """The state at the cursor, and whether all of the file above it was seen."""
    start = 0 if len(prefix) <= _WINDOW else prefix.find("\n", len(prefix) - _WINDOW) + 1
    return _scanned(prefix[start:], language), len(prefix) <= _WINDOW


@lru_cache(maxsize=16)
def _scanned(text: str, language: str | None) -> Scan:
    return scan(text, language)


@lru_cache(maxsize=16)
def _closed_by(suffix: str, language: str | None) -> str:
    return scan(suffix, language).closed
