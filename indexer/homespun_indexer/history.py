"""What was added to a repository, step by step along its main line.

A step is a commit of the first-parent history with its whole difference to the one before, so a merged pull request is
one step: its parts aren't told apart, and none of them can leak into another. Renames are followed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import IO

from homespun_core.languages import languages
from homespun_indexer.git import GitFailed
from homespun_indexer.repository import Repository

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_INDEX = re.compile(r"^index ([0-9a-f]{40,64})\.\.([0-9a-f]{40,64})")
_BOT = re.compile(
    r"\[bot\]|\bbot@|-bot\b|dependabot|renovate|pyup|snyk|weblate|transifex|github-actions|pre-commit-ci|greenkeeper",
    re.IGNORECASE,
)
_REVERT = re.compile(r"^(revert\b|this reverts commit)", re.IGNORECASE)
_MARK = "\x01"
_TIME_MARK = "//"
"""No path begins like this."""
_MOST_DIGITS = 11
"""Of a commit's time: more lie beyond the year 5138."""
_AROUND = 4
"""Commits before one, and as many after it."""
LOOKED_AT = 4_000
MAX_STEP_LINES = 3_000
"""A step that adds more is an import, a reformatting or a merged branch, not somebody writing code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedLines:
    """Consecutive lines of the new file: `lines[0]` is line `start` (1-based). What stood below them before the step
    begins at line `old_below` of the old file."""

    start: int
    lines: tuple[str, ...]
    old_below: int


@dataclass(slots=True, kw_only=True)
class ChangedFile:
    path: str
    old_blob: str
    new_blob: str
    added: list[AddedLines] = field(default_factory=list)
    """Empty where the step is a large one."""
    num_added: int = 0
    """Lines."""


@dataclass(slots=True, kw_only=True)
class Step:
    commit: str
    parent: str | None
    time: int
    """Commit time, as `seconds` has it."""
    author: str
    subject: str
    files: list[ChangedFile] = field(default_factory=list)
    num_added: int = 0
    """Lines."""

    @property
    def reason(self) -> str | None:
        """Why nothing is taken from it; None if it may."""
        if _BOT.search(_without_host(self.author)) or (self.subject.startswith("Merge") and _BOT.search(self.subject)):
            return "bot"
        if _REVERT.search(self.subject):
            return "revert"
        return "large commit" if self.num_added > MAX_STEP_LINES else None


def _without_host(author: str) -> str:
    """Name and mailbox: everybody of a company may have an address at `renovate-homes.example`."""
    name, _, address = author.rpartition("<")
    return f"{name}<{address.partition('@')[0]}@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mainline:
    """First-parent history, newest first."""

    commits: tuple[str, ...]
    times: tuple[int, ...]
    """As `seconds` has them."""

    def num_within(self, period: int, most: int) -> int:
        """How many of the newest `most` commits, the last one in any case, were made in so many seconds before the end.
        A commit's time is that of the middle one of those around it: a few clocks that were wrong say nothing."""
        youngest = _middle(self.times[: _AROUND + 1]) - period
        near = ((i, min(i, _AROUND)) for i in range(1, most))
        return next((i for i, n in near if 0 < _middle(self.times[i - n : i + n + 1]) < youngest), most)


def _middle(times: Sequence[int]) -> int:
    """0 where none is known."""
    return median_low([time for time in times if time] or [0])


def mainline(repo: Repository, limit: int) -> Mainline:
    """The last `limit` commits. A shallow clone's history ends where it was cut off."""
    try:
        lines = repo.git.text(
            "log", "--first-parent", f"--max-count={limit}", "--format=%H %ct", "--end-of-options", repo.head
        ).splitlines()
    except GitFailed:  # objects are missing, as in a damaged clone: as if there were no history
        return Mainline(commits=(repo.head,), times=(0,))
    rows = [line.partition(" ") for line in lines]
    return Mainline(commits=tuple(r[0] for r in rows), times=tuple(seconds(r[2]) for r in rows))


def seconds(stamp: str) -> int:
    """A commit's time as git prints it, in seconds since 1970; 0 where the commit has no readable date."""
    return int(stamp) if stamp.isdecimal() and len(stamp) <= _MOST_DIGITS else 0


def last_changed(repo: Repository, commit: str, paths: Collection[str]) -> dict[str, int]:
    """When each path was last changed, in seconds since 1970, as far as the last LOOKED_AT commits tell; a path that
    they don't touch gets the time of the oldest of them."""
    found: dict[str, int] = {}
    at, wanted = 0, set(paths)
    command = ["log", f"--max-count={LOOKED_AT}", "--no-renames", "--name-only", "-z", "--diff-merges=off"]
    with repo.git.running(*command, f"--format={_TIME_MARK}%ct", "--end-of-options", commit, "--") as process:
        assert process.stdout is not None
        for field_ in split_fields(process.stdout):
            text = field_.decode("utf-8", "replace").removeprefix("\n")
            if text.startswith(_TIME_MARK):
                at = seconds(text.removeprefix(_TIME_MARK))
            elif text in wanted:
                found[text] = at
                wanted.discard(text)
                if not wanted:
                    break
    return found | (dict.fromkeys(wanted, at) if at else {})


def split_fields(stream: IO[bytes]) -> Iterator[bytes]:
    """What stands between NUL bytes."""
    rest = b""
    while block := stream.read(1 << 16):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    if rest:
        yield rest


def steps(repo: Repository, max_commits: int) -> Iterator[Step]:
    """The steps that touch source files, newest first, of the last `max_commits` commits."""
    command = [
        "log",
        "--first-parent",
        "--diff-merges=first-parent",
        f"--max-count={max_commits}",
        "--patch",
        "--unified=0",
        "--inter-hunk-context=0",
        "--full-index",
        "--find-renames",
        "-l400",
        "--no-color",
        "--no-ext-diff",  # these two would run programs that the repository names
        "--no-textconv",
        "--no-notes",
        "--submodule=short",
        "--ignore-submodules=all",
        "--src-prefix=a/",
        "--dst-prefix=b/",
        f"--format={_MARK}%H%x00%P%x00%ct%x00%an <%ae>%x00%s",
        "--end-of-options",
        repo.head,
        "--",
        *_source_globs(),
    ]
    with repo.git.running(*command) as process:
        assert process.stdout is not None
        yield from _parsed(line.decode("utf-8", "replace").rstrip("\r\n") for line in process.stdout)


def _source_globs() -> list[str]:
    """Pathspecs of every language's files: the rest of a history can be much larger."""
    globs = [f"*{ext}" for language in languages().values() for ext in language.extensions]
    return globs + [f":(glob)**/{name}" for language in languages().values() for name in language.filenames]


def _parsed(lines: Iterator[str]) -> Iterator[Step]:
    step: Step | None = None
    file: ChangedFile | None = None
    left_old = left_new = 0  # lines that the hunk still has: within it, nothing is a header, whatever it looks like
    old_at = new_at = 0  # the next lines of the old and the new file
    added: list[str] = []
    for line in lines:
        if left_old or left_new:
            if line.startswith("+"):
                left_new, new_at = left_new - 1, new_at + 1
                _take(step, file, line, added)
            elif line.startswith("-"):
                left_old, old_at = left_old - 1, old_at + 1
            elif not line.startswith("\\"):  # context, which we don't ask for; "\" says that a line end is missing
                _add(file, added, new_at, old_at)
                added = []
                left_old, left_new, old_at, new_at = left_old - 1, left_new - 1, old_at + 1, new_at + 1
            if not left_old and not left_new:
                _add(file, added, new_at, old_at)
                added = []
        elif line.startswith(_MARK):
            if step is not None:
                yield step
            step, file = _step(line), None
        elif line.startswith("diff --git ") and step is not None:
            file = ChangedFile(path="", old_blob="", new_blob="")
        elif file is not None and step is not None:
            if (match := _INDEX.match(line)) is not None:
                file.old_blob, file.new_blob = match.groups()
            elif line.startswith("+++ "):
                _name(file, line[4:], step)
            elif (match := _HUNK.match(line)) is not None:
                old_at, left_old, new_at, left_new = (int(n) if n is not None else 1 for n in match.groups())
                old_at += not left_old  # git names the line before the place where lines were only added
    if step is not None:
        yield step


def _take(step: Step | None, file: ChangedFile | None, line: str, added: list[str]) -> None:
    """Keep an added line; those of a large step are only counted, since an import may be larger than memory."""
    if step is None or file is None or not file.path:
        return
    step.num_added += 1
    file.num_added += 1
    if step.num_added <= MAX_STEP_LINES:
        added.append(line[1:])
    elif step.num_added == MAX_STEP_LINES + 1:
        added.clear()
        for known in step.files:
            known.added.clear()


def _add(file: ChangedFile | None, added: list[str], new_at: int, old_at: int) -> None:
    if added and file is not None:
        file.added.append(AddedLines(start=new_at - len(added), lines=tuple(added), old_below=old_at))


def _step(line: str) -> Step:
    commit, parents, time, author, subject = [*line[len(_MARK) :].split("\0"), "", "", "", ""][:5]
    return Step(
        commit=commit,
        parent=parents.split()[0] if parents else None,
        time=seconds(time),
        author=author,
        subject=subject,
    )


def _name(file: ChangedFile, name: str, step: Step) -> None:
    """Paths that git quotes (control characters, quotes) are left out; deleted files have nothing added."""
    name = name.rstrip("\t")
    if name.startswith("b/"):
        file.path = name[2:]
        step.files.append(file)
