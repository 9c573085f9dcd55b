"""Held-out places: lines that developers added after the corpus was cut, as completions to be scored.

Which lines count and where the cursor stands in them is decided by hashes of seed, commit and line, so the same
repository and seed give the same tasks in any order of work.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from homespun_core.languages import language_of_path
from homespun_core.types import EvalTask
from homespun_indexer import filters
from homespun_indexer.files import SourceFile
from homespun_indexer.history import Step
from homespun_indexer.repository import Repository
from homespun_indexer.secrets import Redacted, redact, redacted
from homespun_indexer.tree import BlobReader

MAX_PER_COMMIT = 5
MAX_PER_FILE = 20
MAX_PREFIX, MAX_SUFFIX = 8_000, 4_000
MIN_TOKENS, MAX_TOKENS = 3, 30
_WHOLE_LINE_SHARE = 0.25

_TOKEN = re.compile(r"\w+|[^\w\s]")
_COMMENT = re.compile(r"^(#|//|/\*|\*|--|<!--|;|%|\"\"\"|''')")
_IMPORT = re.compile(
    r"^(import\b|from\s+\S+\s+import\b|#include|using\s+[\w.:]+;|use\s+[\w:\\]+|package\s|require\b|export\s+\*)"
)
_STRING = re.compile(r"""^[rbfuRBFU]{0,2}(?P<quote>["'`]).*(?P=quote)[,;)\]}]*$""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line that may become a task. The texts around it cost a look into the repository, so they are named by blob."""

    path: str
    language: str
    commit: str
    line: str
    number: int
    """1-based, in the new file."""
    old_below: int
    old_blob: str
    new_blob: str


def line_reason(line: str) -> str | None:
    """Why a line makes no task; None if it does. Trivial lines would carry the score, and nobody needs help with
    them."""
    text = line.strip()
    if len(line) > filters.MAX_LINE:  # before any pattern sees it: some take quadratic time
        return "too long"
    if len(_TOKEN.findall(text)) < MIN_TOKENS or not re.search(r"\w{2}", text):
        return "too short"
    if _COMMENT.match(text):
        return "comment"
    if _IMPORT.match(text):
        return "import"
    if _STRING.match(text):
        return "string only"
    return "holds a secret" if redact(text)[1] else None


def places(step: Step, refused: Counter[str], left_out: Callable[[str], str | None]) -> Iterator[Place]:
    """The lines of a step that may become tasks; others are counted in `refused` by reason. `left_out` says why those
    of a path don't."""
    of_step = step.reason
    for file in step.files:
        language = language_of_path(file.path)
        reason = filters.path_reason(file.path) or of_step or left_out(file.path)
        if reason or language is None:
            refused[reason or filters.UNKNOWN_LANGUAGE] += file.num_added
            continue
        for added in file.added:
            for offset, line in enumerate(added.lines):
                if (why := line_reason(line)) is not None:
                    refused[why] += 1
                    continue
                yield Place(
                    path=file.path,
                    language=language.name,
                    commit=step.commit,
                    line=line,
                    number=added.start + offset,
                    old_below=added.old_below,
                    old_blob=file.old_blob,
                    new_blob=file.new_blob,
                )


def spread(found: Iterable[Place], seed: int, *, per_commit: int = MAX_PER_COMMIT) -> list[Place]:
    """In an order of chance, no line's text twice, at most `per_commit` of a commit and MAX_PER_FILE of a file."""
    commits: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    texts: set[str] = set()
    kept = []
    for place in sorted(found, key=lambda p: _chance(seed, p.commit, p.path, p.number)):
        text = place.line.strip()
        if text in texts or commits[place.commit] >= per_commit or paths[place.path] >= MAX_PER_FILE:
            continue
        texts.add(text)
        commits[place.commit] += 1
        paths[place.path] += 1
        kept.append(place)
    return kept


def tasks_at(
    repo: Repository, places: Iterable[Place], seen: Callable[[Place], bool], seed: int, count: int
) -> list[EvalTask]:
    """The first `count` that fit. `seen`: whether the line of a place was known before."""
    made: list[EvalTask] = []
    with BlobReader(repo) as blobs:
        for place in places:
            if len(made) == count:
                break
            new, old = text_of(blobs, place.new_blob), text_of(blobs, place.old_blob)
            found = task(place, new, old, seen, seed) if new else None
            made += [found] if found else []
    return made


def text_of(blobs: BlobReader, blob: str) -> str:
    """Empty where there is none (a new file's old blob is all zeros) or it doesn't count as source."""
    raw = blobs.find(blob) if blob.strip("0") else None
    return filters.decode_source(raw)[0] if raw is not None else ""


def task(place: Place, new: str, old: str, seen: Callable[[Place], bool], seed: int) -> EvalTask | None:
    """The task at a place; `new` and `old` are the file's texts after and before the step. None when they don't fit
    it, or a secret reaches into it, which only the whole file shows: a private key has one line that says so."""
    if new.split("\n")[place.number - 1 : place.number] != [place.line]:
        return None
    clean = redacted(new)
    above = _above(clean, new, place.number)
    below = _below(clean if old == new else redacted(old), old, place.old_below)
    if above is None or below is None or clean.text[len(above) :].partition("\n")[0] != place.line:
        return None
    column = cursor_column(place.line, _chance(seed, "cursor", place.commit, place.path, place.number))
    return EvalTask(
        path=place.path,
        language=place.language,
        commit=place.commit,
        prefix=(above + place.line[:column])[-MAX_PREFIX:],
        middle=place.line[column:].rstrip(),
        suffix=below[:MAX_SUFFIX],
        seen=seen(place),
    )


def _above(clean: Redacted, text: str, number: int) -> str | None:
    """Redacted, what stands before line `number` of `text`; None when a secret reaches over that."""
    place = clean.place_of(sum(len(line) + 1 for line in text.split("\n")[: number - 1]))
    return None if place is None else clean.text[:place]


def _below(clean: Redacted, text: str, number: int) -> str | None:
    """The same of what stands from line `number` on, with the end of the line before it."""
    if number > text.count("\n") + 1 or not text:
        return ""
    above = _above(clean, text, number)
    return None if above is None else "\n" + clean.text[len(above) :]


def cursor_column(line: str, chance: float) -> int:
    """Where the cursor stands: at the indentation, or before a token inside; the rest is MIN_TOKENS to MAX_TOKENS
    long."""
    starts = [match.start() for match in _TOKEN.finditer(line)]
    allowed = starts[max(0, len(starts) - MAX_TOKENS) : len(starts) - MIN_TOKENS + 1]
    inside = [column for column in allowed if column > starts[0]]
    if not inside or (starts[0] in allowed and chance < _WHOLE_LINE_SHARE):
        return allowed[0]
    rest = (chance - _WHOLE_LINE_SHARE) / (1 - _WHOLE_LINE_SHARE) if starts[0] in allowed else chance
    return inside[min(len(inside) - 1, int(rest * len(inside)))]


def file_places(file: SourceFile, commit: str, refused: Counter[str]) -> Iterator[Place]:
    """The lines of a held-out file that may become tasks. Their `commit` is `commit:path`, git's name for the file in
    it: an evaluation resamples by commit, and here it's the lines of one file that depend on one another."""
    for number, line in enumerate(file.text.split("\n"), 1):
        if (why := line_reason(line)) is not None:
            refused[why] += 1
            continue
        yield Place(
            path=file.path,
            language=file.language,
            commit=f"{commit}:{file.path}",
            line=line,
            number=number,
            old_below=number + 1,
            old_blob=file.blob,
            new_blob=file.blob,
        )


def known_in(lines: Collection[str]) -> Callable[[Place], bool]:
    """Whether the line of a place is one of these, which are stripped."""
    return lambda place: place.line.strip() in lines


def stripped_lines(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(line.strip() for text in texts for line in text.split("\n"))


def _chance(seed: int, *parts: object) -> float:
    digest = hashlib.sha256("\0".join(map(str, (seed, *parts))).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(path: str, seed: int, share: float) -> bool:
    return _chance(seed, "held out", path) < share
