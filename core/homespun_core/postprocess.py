"""From what the model wrote to what is worth showing. Pure; the server, the gate and benchmarks share it.

Every rule only cuts, so the result is always a prefix of what the model wrote: text that was streamed before a cut
was right as far as it goes.
"""

from __future__ import annotations

import re

from homespun_core.balance import before_doubled_quote, before_stray_closer, to_clean_end

_OPENERS, _CLOSERS = "([{", ")]}"
_CLOSING = re.compile(r"""[)\]}>'"`;,:\s]*""")
"""What editors insert by themselves right of the cursor."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What isn't shown as what it is: control characters, rare line ends, halves of characters, and those that turn the
direction of text, with which code reads otherwise than it runs (CVE-2021-42574)."""
_STUTTER = re.compile(r"(.{10,}?)\1{2,}|(.{3,}?)\2{5,}")
"""Tabby's two thresholds for a line that repeats itself: three times something long, six times something short."""
_STUTTER_CHARS = 1_000
"""Of a line, at its end: the search takes the square of them."""
_MAX_REPEATED_GROUP = 4
"""Lines."""


def finish(
    prefix: str,
    completion: str,
    suffix: str,
    *,
    multi_line: bool = True,
    truncated: bool = False,
    language: str | None = None,
    is_end: bool = True,
) -> str:
    """The part of `completion` to insert between `prefix` and `suffix`; empty when nothing is worth showing.

    `multi_line=False` keeps the first line only, as does code right of the cursor on its line. `truncated` says that
    a limit ended the completion: a last line that may be half a line is left out when there are others. `is_end=False`
    says that more is to come, so what is open may still be closed.
    """
    text = _whole_lines(completion) if truncated else completion
    shown = _cut(prefix, text, suffix, multi_line, language, is_end)
    while shown != text:  # a cut may bring to light what another rule cuts
        shown, text = _cut(prefix, shown, suffix, multi_line, language, is_end), shown
    return shown


def before_unseen(text: str) -> str:
    return _UNSEEN.split(text, maxsplit=1)[0]


def _cut(prefix: str, text: str, suffix: str, multi_line: bool, language: str | None, is_end: bool) -> str:
    line_before = prefix[prefix.rfind("\n") + 1 :]
    line_after = suffix.partition("\n")[0].rstrip("\r")
    text = before_unseen(text)
    if not multi_line or not _CLOSING.fullmatch(line_after):
        text = text.partition("\n")[0].rstrip("\r")
    else:
        text = _before_dedent(text, _indent(line_before))
        text = _before_what_follows(text, suffix)
        text = _before_repetition(text)
    text = _without_overlap(line_before, text, line_after)
    text = before_doubled_quote(prefix, text, line_after, language)
    text = before_stray_closer(prefix, text, suffix, language)
    text = to_clean_end(prefix, text, suffix, language) if is_end else text
    text = _before_stutter(text).rstrip()
    is_echo = _repeats_line_above(prefix, line_before, text) or _repeats_line_below(line_before, text, suffix)
    return "" if is_echo else text


def _whole_lines(text: str) -> str:
    head, newline, _ = text.rpartition("\n")
    return head if newline and head.strip() else text


def _before_dedent(text: str, indent: int) -> str:
    """Stop where the code leaves the block the cursor is in: what comes there already stands below, or is guesswork."""
    lines = text.split("\n")
    for i, line in enumerate(lines[1:], 1):
        if line.strip() and _indent(line) < indent:
            return "\n".join(lines[:i])
    return text


def _before_what_follows(text: str, suffix: str) -> str:
    """Stop before lines that stand below the cursor already.

    One equal line is enough when it says something; a lone closing bracket must close nothing opened in `text`.
    """
    below = next((line.strip() for line in suffix.split("\n")[1:] if line.strip()), "")
    if not below:
        return text
    lines = text.split("\n")
    for i, line in enumerate(lines[1:], 1):
        if line.strip() != below:
            continue
        head = "\n".join(lines[:i])
        if any(c.isalnum() for c in below) or _depth(head) <= 0:
            return head
    return text


def _before_repetition(text: str) -> str:
    """Keep the first of three equal lines, or of three equal groups of lines."""
    lines = text.split("\n")
    bare = [line.strip() for line in lines]
    for size in range(1, _MAX_REPEATED_GROUP + 1):
        for i in range(len(lines) - 3 * size + 1):
            group = bare[i : i + size]
            if group * 2 == bare[i + size : i + 3 * size] and any(c.isalnum() for c in "".join(group)):
                return "\n".join(lines[: i + size])
    return text


def _without_overlap(line_before: str, text: str, line_after: str) -> str:
    """Drop an end that repeats what stands right of the cursor, unless the brackets of the line need it, or those that
    it opens itself."""
    rest = line_after.strip()
    stripped = text.rstrip()
    if not rest or not stripped.endswith(rest) or _depth(rest) < 0 <= _depth(text):
        return text
    cut = stripped.removesuffix(rest)
    imbalance_kept = abs(_depth(line_before + text + line_after))
    imbalance_cut = abs(_depth(line_before + cut + line_after))
    return cut if imbalance_cut <= imbalance_kept else text


def _before_stutter(text: str) -> str:
    head, newline, last = text.rpartition("\n")
    match = _STUTTER.search(last[-_STUTTER_CHARS:])
    if match is None:
        return text
    start = max(0, len(last) - _STUTTER_CHARS) + match.start()
    return head + newline + last[: start + len(match.group(1) or match.group(2))]


def _repeats_line_above(prefix: str, line_before: str, text: str) -> bool:
    """Whether the first line would only say the line above again. Short or wordless lines may."""
    line = (line_before + text.partition("\n")[0]).strip()
    above = prefix[: len(prefix) - len(line_before)].rstrip().rpartition("\n")[2].strip()
    return len(line) >= 8 and line == above and any(c.isalnum() for c in line)


def _repeats_line_below(line_before: str, text: str, suffix: str) -> bool:
    """Whether the first line would only say what the next line says."""
    first, newline, _ = text.partition("\n")
    below = next((line.strip() for line in suffix.split("\n")[1:] if line.strip()), "")
    return not newline and len(below) >= 8 and (line_before + first).strip() == below


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _depth(text: str) -> int:
    """Opened minus closed brackets; strings and comments are not told apart, which is good enough for a tie-break."""
    return sum((c in _OPENERS) - (c in _CLOSERS) for c in text)
