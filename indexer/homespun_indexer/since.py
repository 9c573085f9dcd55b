"""Places that developers wrote since a day or a commit, or that stand in given files; where nobody names any, `corpus`
chooses its cut itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from homespun_core.config import Settings
from homespun_core.errors import RepositoryError
from homespun_core.paths import DataDir
from homespun_core.types import EvalTask, Progress
from homespun_indexer import files, filters, tasks
from homespun_indexer.corpus import Request, left_out, request_for
from homespun_indexer.git import GitFailed
from homespun_indexer.history import MAX_STEP_LINES, Mainline, Step, mainline, steps
from homespun_indexer.repository import Repository
from homespun_indexer.tasks import Place
from homespun_indexer.tree import BlobReader

_MAX_COMMITS = 50_000
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """A commit, and lines that were added after it, or stand in files that nothing was learned from."""

    commit: str
    tasks: Sequence[EvalTask]
    num_possible: int
    """So many lines could have been asked for; of these, `tasks` are a fixed selection."""


def tasks_since(
    repo: Repository, settings: Settings, data: DataDir, since: str, count: int, progress: Progress
) -> Since:
    """At most `count` places. The first ones stay the same when more are asked for. A line counts as seen when it stood
    somewhere as of `since` or was added between then and its own commit.

    Raises RepositoryError when `since` is no day or commit of the main line, or nothing was written after it.
    """
    line = mainline(repo, _MAX_COMMITS)
    cut = _position(repo, line, since)
    refused: Counter[str] = Counter()
    later = _Later()
    found = _places(request_for(repo, settings, data), line, cut, refused, progress, later)
    known = tasks.known_in(_lines(repo, settings, line.commits[cut]))
    made = tasks.tasks_at(repo, found, lambda place: known(place) or later.had(place), settings.seed, count)
    if not made:
        raise RepositoryError(_nothing(f"{repo.identity}: no line to ask for was written since {since}", refused))
    return Since(commit=line.commits[cut], tasks=made, num_possible=len(found))


def tasks_in(
    repo: Repository, settings: Settings, data: DataDir, commit: str, paths: frozenset[str], count: int
) -> Since:
    """At most `count` places in these files as of a commit. Raises RepositoryError when there is none."""
    reason = left_out(request_for(repo, settings, data))
    texts = (file for file in files.source_files(repo, settings=settings, commit=commit) if file.path in paths)
    wanted = (file for file in texts if reason(file.path) is None)
    places = (place for file in wanted for place in tasks.file_places(file, commit, Counter()))
    found = tasks.spread(places, settings.seed, per_commit=tasks.MAX_PER_FILE)
    known = _lines(repo, settings, commit, without=paths)
    made = tasks.tasks_at(repo, found, tasks.known_in(known), settings.seed, count)
    if not made:
        raise RepositoryError(
            f"{repo.identity}: no line to ask for stands in the {len(paths)} files that were held out"
        )
    return Since(commit=commit, tasks=made, num_possible=len(found))


def position_of(repo: Repository, commit: str) -> int | None:
    """How many commits of the main line came after it; None when it isn't on it."""
    commits = mainline(repo, _MAX_COMMITS).commits
    return commits.index(commit) if commit in commits else None


def commits_after(repo: Repository, commit: str) -> frozenset[str] | None:
    """Those of the main line; None when it isn't on it."""
    commits = mainline(repo, _MAX_COMMITS).commits
    return frozenset(commits[: commits.index(commit)]) if commit in commits else None


def _position(repo: Repository, line: Mainline, since: str) -> int:
    """Of the newest commit that is known when everything since then is asked for."""
    if _DATE.fullmatch(since):
        return _before(repo, line, since)
    try:
        commit = repo.git.text("rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}").strip()
    except GitFailed:
        raise RepositoryError(
            f"{repo.identity}: {since!r} is no commit there; give one, or a day as 2026-01-31"
        ) from None
    if commit not in line.commits:
        raise RepositoryError(
            f"{repo.identity}: {since} isn't on the main line of {repo.branch}; give a commit that is, or a day"
        )
    return line.commits.index(commit)


def _before(repo: Repository, line: Mainline, day: str) -> int:
    try:
        start = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise RepositoryError(f"{day!r} is no day; write it as 2026-01-31") from None
    found = next((i for i, time in enumerate(line.times) if 0 < time < start), None)
    if found is None:
        raise RepositoryError(f"{repo.identity}: there is no commit before {day}; choose a later day")
    return found


def _nothing(said: str, refused: Counter[str]) -> str:
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in refused.most_common(3))
    undo = ", or see `homespun forget --list`" if filters.FORGOTTEN in refused else ""
    return f"{said}{f' (lines left out: {reasons})' if reasons else ''}; choose an earlier one{undo}"


class _Later:
    """Which lines of places steps had added before. Steps come newest first, so that no others need be kept: an import
    may be larger than memory."""

    def __init__(self) -> None:
        self._oldest: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def add(self, step: Step, places: Iterable[Place], blobs: BlobReader) -> None:
        self._numbers[step.commit] = number = len(self._numbers)
        for place in places:
            self._oldest.setdefault(place.line.strip(), number)
        for line in _added(step, blobs):
            if (text := line.strip()) in self._oldest:
                self._oldest[text] = number

    def had(self, place: Place) -> bool:
        """Whether a step before that of the place had added its line."""
        return self._oldest[place.line.strip()] > self._numbers[place.commit]


def _added(step: Step, blobs: BlobReader) -> Iterator[str]:
    """Of a large step, whose lines aren't kept, all lines of its files."""
    for file in step.files:
        if step.num_added <= MAX_STEP_LINES:
            for added in file.added:
                yield from added.lines
        elif filters.path_reason(file.path) is None:
            yield from tasks.text_of(blobs, file.new_blob).split("\n")


def _places(
    request: Request, line: Mainline, cut: int, refused: Counter[str], progress: Progress, later: _Later
) -> list[Place]:
    """Those after the cut; `later` is told of all that was added."""
    repo, settings, reason = request.repo, request.settings, left_out(request)
    commits = frozenset(line.commits[:cut])
    found: list[Place] = []
    progress.start("Reading the history", total=cut, unit="commits")
    with BlobReader(repo) as blobs:
        for number, step in enumerate(steps(repo, cut) if cut else ()):
            if step.commit not in commits:  # of commits without source `steps` counts none, so it reads on
                break
            chosen = tasks.spread(tasks.places(step, refused, reason), settings.seed)
            later.add(step, chosen, blobs)
            found += chosen
            progress.advance(number + 1)
    progress.finish()
    return tasks.spread(found, settings.seed)


def _lines(repo: Repository, settings: Settings, cut: str, without: frozenset[str] = frozenset()) -> frozenset[str]:
    """That stand in the code as of the cut."""
    texts = files.source_files(repo, settings=settings, commit=cut)
    return tasks.stripped_lines(file.text for file in texts if file.path not in without)
