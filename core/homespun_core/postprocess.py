"""From what the model wrote to what is worth showing. Pure; the server, the gate and benchmarks share it.

Every rule only cuts, so the result is always a prefix of what the model wrote: text that was streamed before a cut
was right as far as it goes.
"""

from __future__ import annotations

import re

_OPENERS, _CLOSERS = "([{", ")]}"
_CLOSING = re.compile(r"""[)\]}>'"`;,:\s]*""")
"""What editors insert by themselves right of the cursor."""
_STUTTER = re.compile(r"(.{10,}?)\1{2,}|(.{3,}?)\2{5,}")
"""Tabby's two thresholds for a line that repeats itself: three times something long, six times something short."""
_MAX_REPEATED_LINES = 2


def finish(prefix: str, completion: str, suffix: str, *, multi_line: bool = True, truncated: bool = False) -> str:
    """The part of `completion` to insert between `prefix` and `suffix`; empty when nothing is worth showing.

    `multi_line=False` keeps the first line only, as does code right of the cursor on its line. `truncated` says that
    a limit ended the completion: a last line that may be half a line is left out when there are others.
    """
    line_before = prefix[prefix.rfind("\n") + 1 :]
    line_after = suffix.partition("\n")[0].rstrip("\r")
    if not multi_line or not _CLOSING.fullmatch(line_after):
        text = completion.partition("\n")[0].rstrip("\r")
    else:
        text = _whole_lines(completion) if truncated else completion
        text = _before_dedent(text, _indent(line_before))
        text = _before_what_follows(text, suffix)
        text = _before_repetition(text)
    text = _without_overlap(line_before, text, line_after)
    text = _before_stutter(text).rstrip()
    return "" if _repeats_line_above(prefix, line_before, text) else text


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
    lines = text.split("\n")
    run = 1
    for i in range(1, len(lines)):
        run = run + 1 if lines[i].strip() and lines[i].strip() == lines[i - 1].strip() else 1
        if run > _MAX_REPEATED_LINES and any(c.isalnum() for c in lines[i]):
            return "\n".join(lines[: i - run + 2])
    return text


def _without_overlap(line_before: str, text: str, line_after: str) -> str:
    """Drop an end that repeats what stands right of the cursor, unless the brackets of the line need it."""
    rest = line_after.strip()
    stripped = text.rstrip()
    if not rest or "\n" in stripped or not stripped.endswith(rest):
        return text
    cut = stripped.removesuffix(rest)
    imbalance_kept = abs(_depth(line_before + text + line_after))
    imbalance_cut = abs(_depth(line_before + cut + line_after))
    return cut if imbalance_cut <= imbalance_kept else text


def _before_stutter(text: str) -> str:
    head, newline, last = text.rpartition("\n")
    match = _STUTTER.search(last)
    if match is None:
        return text
    return head + newline + last[: match.start() + len(match.group(1) or match.group(2))]


def _repeats_line_above(prefix: str, line_before: str, text: str) -> bool:
    """Whether the first line would only say the line above again. Short or wordless lines may."""
    line = (line_before + text.partition("\n")[0]).strip()
    above = prefix[: len(prefix) - len(line_before)].rstrip().rpartition("\n")[2].strip()
    return len(line) >= 8 and line == above and any(c.isalnum() for c in line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _depth(text: str) -> int:
    """Opened minus closed brackets; strings and comments are not told apart, which is good enough for a tie-break."""
    return sum((c in _OPENERS) - (c in _CLOSERS) for c in text)
