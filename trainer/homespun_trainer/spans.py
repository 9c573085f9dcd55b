"""Where a training example cuts a file: where people ask for a completion, and ends that a model can learn to stop at.

Pure text, no syntax tree: indentation finds statements and blocks well enough in every language, and the trainer stays
free of grammars. Every middle ends at the end of a line or in front of the brackets that close it, never in the middle
of something.
"""

from __future__ import annotations

import bisect
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

MAX_BLOCK_LINES = 12
_MAX_LINE = 240
"""Longer lines are data more often than code."""
_ATTEMPTS = 12

_TRIGGER = re.compile(r"[.(=,\[{:]\s?|\b(?:return|import|from|new|await|yield|raise|throw|in|not|if)\s")
"""Behind these an editor asks for a completion."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_IDENTIFIER = re.compile(r"[^\W\d]\w{3,}")
_CLOSERS = ")]}'\"`;,"
_OPENERS = ("(", "[")
_OPEN_ENDS = tuple("([{,=+-*/.:|&<\\")
_CLOSING_LINE = re.compile(r"\s*(?:[)\]}]|end\b|else\b|elif\b|except\b|finally\b|catch\b)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """`text[start:end]` is the middle; it may be empty (nothing belongs here: the model has to stop at once)."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Lines:
    """A text with the offsets of its lines: line i is `text[starts[i]:ends[i]]`, without its line break."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @staticmethod
    def of(text: str) -> Lines:
        starts = [0, *(m.end() for m in re.finditer("\n", text))]
        ends = [*(s - 1 for s in starts[1:]), len(text)]
        return Lines(text, tuple(starts), tuple(ends))

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, i: int) -> str:
        return self.text[self.starts[i] : self.ends[i]]

    def indent(self, i: int) -> int:
        line = self.line(i)
        return len(line) - len(line.lstrip())

    def is_code(self, i: int) -> bool:
        """Whether someone could want this line completed: it says something, and isn't a wall of data."""
        line = self.line(i)
        return len(line) <= _MAX_LINE and sum(c.isalnum() for c in line) >= 3


def choose_cut(
    lines: Lines, rng: random.Random, recent: Sequence[tuple[int, int]] = (), recent_share: float = 0.0
) -> Cut | None:
    """A random place of `lines`, by the shares below; None when the text has no line worth completing.

    `recent` are hunks as (first line, last line), both included; that share of the cuts is a hunk, from one of its
    lines to its end."""
    if recent and rng.random() < recent_share and (cut := _closed(lines, _hunk(lines, rng.choice(recent), rng))):
        return cut
    return _found(lines, rng, lambda: rng.randrange(len(lines)))


def choose_own_cut(lines: Lines, rng: random.Random, own: Sequence[tuple[int, int]]) -> Cut | None:
    """The same, with nothing in the middle but lines of `own`, ranges as above."""
    numbers = [i for first, last in own for i in range(first, last + 1)]
    cut = _found(lines, rng, lambda: rng.choice(numbers)) if numbers else None
    if cut is None:
        return None
    first, last = bisect.bisect_right(lines.starts, cut.start) - 1, bisect.bisect_left(lines.ends, cut.end)
    return cut if any(a <= first and last <= b for a, b in own) else None


def _found(lines: Lines, rng: random.Random, line: Callable[[], int]) -> Cut | None:
    (finder,) = rng.choices([f for f, _ in _FINDERS], weights=[w for _, w in _FINDERS])
    for _ in range(_ATTEMPTS):
        i = line()
        if lines.is_code(i) and (cut := _closed(lines, finder(lines, i, rng))):
            return cut
    return None


def is_left_open(middle: str) -> bool:
    """Whether it ends right behind a bracket that it opens."""
    return middle.rstrip().endswith(_OPENERS)


def _closed(lines: Lines, cut: Cut | None) -> Cut | None:
    """The cut, or where its last line leaves a bracket open, one that goes on to the end of what is in it.

    Adapters that had seen middles end there stopped early at 8 to 18 lines of 383, most of them behind a bracket that
    the developer went on after; the base model at 4 (benchmarks/LOG.md).
    """
    if cut is None or not is_left_open(lines.text[cut.start : cut.end]):
        return cut
    i = bisect.bisect_left(lines.ends, cut.end)
    last = block_end(lines, i)
    if lines.ends[i] != cut.end or last == i or last - i >= MAX_BLOCK_LINES:
        return None
    return replace(cut, end=lines.ends[last])


def _rest_of_line(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """From the line's indentation, from behind something an editor asks at, or from any word, to the line's end."""
    line = lines.line(i)
    draw = rng.random()
    places = [lines.indent(i)]
    if draw > 0.3:
        places += [m.end() for m in _TRIGGER.finditer(line)]
    if draw > 0.7:
        places = [m.start() for m in _TOKEN.finditer(line)]
    return _to_line_end(lines, i, rng.choice(places), "rest of line")


def _inside_identifier(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """People stop typing in the middle of a name: the tokens there are split as nowhere else."""
    names = list(_IDENTIFIER.finditer(lines.line(i)))
    if not names:
        return None
    name = rng.choice(names)
    return _to_line_end(lines, i, rng.randrange(name.start() + 1, name.end()), "inside a name")


def _before_closers(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """Editors close brackets and quotes by themselves: then the suffix begins with them, on the same line."""
    line = lines.line(i)
    end = len(line.rstrip().rstrip(_CLOSERS))
    places = [m.end() for m in _TRIGGER.finditer(line, 0, end) if m.end() < end]
    if end == len(line) or not places:
        return None
    start = lines.starts[i]
    return Cut(start=start + rng.choice(places), end=start + end, kind="before closers")


def _few_lines(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """Two to four lines, none less indented than the first."""
    last = i + rng.randint(1, 3)
    if last >= len(lines):
        return None
    inside = all(lines.is_code(j) and lines.indent(j) >= lines.indent(i) for j in range(i, last + 1))
    return Cut(start=lines.starts[i] + lines.indent(i), end=lines.ends[last], kind="few lines") if inside else None


def _block(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """A line and all that is indented under it, from its indentation or from its own end; too long a block is left
    alone."""
    last = block_end(lines, i)
    if last == i or last - i >= MAX_BLOCK_LINES:
        return None
    whole = rng.random() < 0.5
    start = lines.starts[i] + lines.indent(i) if whole else lines.ends[i]
    return Cut(start=start, end=lines.ends[last], kind="block")


def _hunk(lines: Lines, hunk: tuple[int, int], rng: random.Random) -> Cut | None:
    """What somebody wrote in one go, from where they may have asked; of a long hunk a part."""
    first, last = hunk
    if last >= len(lines):
        return None
    i = rng.randint(first, last)
    if not lines.is_code(i):
        return None
    end = min(last, i + MAX_BLOCK_LINES - 1)
    while not lines.is_code(end):  # ends with i at the latest
        end -= 1
    return Cut(start=lines.starts[i] + lines.indent(i), end=lines.ends[end], kind="hunk")


def _nothing(lines: Lines, i: int, rng: random.Random) -> Cut | None:
    """Not behind what goes on: adapters that had seen nothing behind an opening bracket ended 51 % of the lines where
    they end, the base model 73 % (benchmarks/LOG.md)."""
    if lines.line(i).rstrip().endswith(_OPEN_ENDS):
        return None
    return Cut(start=lines.ends[i], end=lines.ends[i], kind="nothing")


def block_end(lines: Lines, i: int) -> int:
    """Last line of the block that line i opens; i itself when it opens none."""
    indent, last = lines.indent(i), i
    for j in range(i + 1, min(len(lines), i + MAX_BLOCK_LINES + 2)):
        if not lines.line(j).strip():
            continue
        if lines.indent(j) > indent:
            last = j
            continue
        closes = lines.indent(j) == indent and last > i and _CLOSING_LINE.match(lines.line(j))
        return j if closes and lines.line(j).strip()[0] in ")]}" else last
    return last


def _to_line_end(lines: Lines, i: int, column: int, kind: str) -> Cut | None:
    start, end = lines.starts[i] + column, lines.ends[i]
    return Cut(start=start, end=end, kind=kind) if lines.text[start:end].strip() else None


_Finder = Callable[[Lines, int, random.Random], Cut | None]
_FINDERS: tuple[tuple[_Finder, float], ...] = (
    (_rest_of_line, 0.50),
    (_inside_identifier, 0.20),
    (_block, 0.13),
    (_few_lines, 0.12),
    (_before_closers, 0.03),
    (_nothing, 0.02),
)
