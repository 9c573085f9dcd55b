"""`homespun index [REPO...]`: build or refresh the index of repositories, and say what went in and what didn't."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from homespun_core import nudges
from homespun_core.cli import BUSY
from homespun_core.config import INDEX, Settings
from homespun_core.errors import BusyError, HomespunError, explain_os_error
from homespun_core.fences import LEASE_HELP, Lease, work_under
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir, hide_credentials, repo_id
from homespun_core.progress import Checked
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import Manifest, locked, read_manifest
from homespun_core.types import ModelFiles, Progress, SilentProgress, Tokenizer
from homespun_indexer.build import SpareBuilder, build_segment
from homespun_indexer.git import END_S
from homespun_indexer.indexing import IndexMemory, index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.snapshot import FORMAT, KIND
from homespun_indexer.tokenizer import load_tokenizer
from homespun_indexer.watch import FIRST_PAUSE_S, LONGEST_PAUSE_S, After, changes_in, watch

logger = logging.getLogger(__name__)

_NUDGE_S = 0.2
"""How often we look whether somebody says that a repository was pushed to, where the operating system doesn't tell."""
_SIDE_BY_SIDE = 4
"""Repositories that are begun with at the same time: a slow one takes up one of these places, and all at once
would take the machine and the hosts by storm."""
_END_S = END_S + 3.0
"""Time to tidy up, after Ctrl-C: a git that doesn't end by itself is killed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """An index that is up to date."""

    repo: Repository
    path: Path
    manifest: Manifest
    seconds: float


@dataclass(frozen=True, slots=True)
class BaseModel:
    """Loaded once a process: hashing and reading it takes 0.1 s, more than indexing a saved file."""

    files: ModelFiles
    tokenizer: Tokenizer
    """For one thread."""

    @staticmethod
    def load(settings: Settings) -> BaseModel:
        """Raises ModelError."""
        files = resolve_base_model(settings.base_model, settings.fim_family)
        return BaseModel(files, load_tokenizer(files))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repositories",
        nargs="*",
        metavar="REPO",
        help="directory of a git repository, https or ssh URL, or name of a configured one (default: all of those)",
    )
    parser.add_argument("--watch", action="store_true", help="go on until stopped, and keep the index fresh")
    parser.add_argument("--lease", type=int, metavar="N", help=LEASE_HELP)
    add_flags(parser, (INDEX,))


def run(args: argparse.Namespace) -> int:
    """1 when one of the repositories couldn't be indexed, BUSY when another process is at it; the others are all the
    same."""
    loaded = settings_from_args(args)
    configure_logging(loaded.settings.log_level, loaded.settings.log_format)
    if args.lease is not None:
        work_under(Lease("index", args.lease))
    spare = SpareBuilder(build_segment)
    followed = [Followed(config, loaded.settings, spare) for config in loaded.chosen(args.repositories)]
    resolve_base_model(loaded.settings.base_model, loaded.settings.fim_family)  # a wrong one is said once
    progress = progress_for_terminal(loaded.settings.progress)
    data = DataDir(loaded.settings.data_root)
    with closing(spare), _ending_in_order():
        index_all(followed, data, progress, threading.Event(), are_watched=args.watch)
    failures = [repository.failure for repository in followed if repository.failure is not None]
    return 0 if not failures else BUSY if all(isinstance(failure, BusyError) for failure in failures) else 1


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends what we began, too, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Followed:
    """A repository that is indexed again and again. For one thread."""

    def __init__(self, config: RepositoryConfig, settings: Settings, spare: SpareBuilder | None = None) -> None:
        self._config, self._settings = config, settings
        self._memory = IndexMemory(spare=spare)
        self._model: BaseModel | None = None
        self._data = DataDir(settings.data_root)
        self._stamp: tuple[int, int] | None = None
        """Of the last nudge that came before we fetched."""
        self._last: Indexed | None = None
        """None: it never could be indexed."""
        self.failure: Exception | None = None
        """What went wrong the last time."""
        self.woken = threading.Event()
        """Set when it is worth while to look for a nudge."""

    def refresh(self, progress: Progress) -> bool:
        """Index it and say what went in; or say in one line what is wrong with it, and return False."""
        shown = self._config.name or hide_credentials(self._config.source)
        self._stamp, self.failure = self._nudged(), None
        try:
            self._model = self._model or BaseModel.load(self._settings)
            indexed = index_once(self._config, self._settings, progress, self._memory, self._model)
        except (HomespunError, OSError) as error:  # the next change or fetch may find it mended
            self.failure = error
            known = explain_os_error(error) if isinstance(error, OSError) else None
            print(f"homespun: {known or error}", file=sys.stderr, flush=True)
            return False
        except Exception as error:  # a job loop: a bug that one repository hits mustn't end the others
            self.failure = error
            what = hide_credentials(repr(error))
            print(f"homespun: {shown}: {what}; please report this", file=sys.stderr, flush=True)
            logger.debug("%s", shown, exc_info=True)
            return False
        if self._last is None or indexed.path != self._last.path:
            print(summary(indexed), flush=True)
        self._last = indexed
        return True

    def follow(self, stop: threading.Event) -> None:
        """A local repository by its events, a cloned one by trying every few minutes; what fails, soon again."""
        with nudges.reading(self._data, repo_id(self._config.source)):
            if self._last is None:
                stop.wait(min(FIRST_PAUSE_S, self._fetch_s))
            while not stop.is_set():
                if self._last is not None:
                    self._wait(self._last.repo, stop)
                self._refresh_until_done(stop)

    @property
    def _fetch_s(self) -> float:
        return self._settings.fetch_minutes * 60

    def _wait(self, repo: Repository, stop: threading.Event) -> None:
        """Until it is time to open the repository again."""
        self._have_one_ready(repo)
        if not repo.is_local or not _is_watched(repo, lambda: self._again(repo, stop), stop):
            self._wait_for_nudge(stop)

    def _have_one_ready(self, repo: Repository) -> None:
        """A process for what comes next."""
        if self._memory.spare is not None and self._model is not None:
            self._memory.spare.renew(self._model.files, repo.id)

    def _wait_for_nudge(self, stop: threading.Event) -> None:
        """Or until it is time to fetch in any case. Some may come before we look, and are one then."""
        deadline = time.monotonic() + self._fetch_s
        while self._nudged() == self._stamp and (left := deadline - time.monotonic()) > 0 and not stop.is_set():
            self.woken.wait(min(_NUDGE_S, left))
            self.woken.clear()

    def _nudged(self) -> tuple[int, int] | None:
        return nudges.stamp(self._data, repo_id(self._config.source))

    def _refresh_until_done(self, stop: threading.Event) -> None:
        pauses = _pauses()
        while not stop.is_set() and not self.refresh(_until(stop, SilentProgress())):
            stop.wait(min(next(pauses), self._fetch_s))

    def _again(self, watched: Repository, stop: threading.Event) -> After:
        is_done = self.refresh(_until(stop, SilentProgress()))
        self._have_one_ready(watched)
        if not is_done:
            return After.FAILED
        assert self._last is not None
        repo = self._last.repo
        is_same = (repo.work_tree, repo.git_dir) == (watched.work_tree, watched.git_dir)
        return After.DONE if is_same else After.MOVED


def index_all(
    repositories: Sequence[Followed],
    data: DataDir,
    progress: Progress,
    stop: threading.Event,
    *,
    are_watched: bool = False,
) -> None:
    """Index repositories, a few side by side, each in a thread of its own; with `are_watched` each again whenever it
    changes, until `stop` is set. Ctrl-C ends it. `progress` shows one of them at a time."""
    turns, screen = threading.Semaphore(_SIDE_BY_SIDE), threading.Lock()

    def follow(repo: Followed) -> None:
        with turns, _free(screen) as is_free:
            if not stop.is_set():
                repo.refresh(_until(stop, progress if is_free else SilentProgress()))
        if are_watched:
            repo.follow(stop)

    threads = [threading.Thread(target=follow, args=(repo,), daemon=True) for repo in repositories]
    for thread in threads:
        thread.start()
    try:
        with changes_in(data.nudges, lambda: _wake(repositories)):
            while any(thread.is_alive() for thread in threads) and not stop.is_set():
                stop.wait(_NUDGE_S)  # not `join`: when Ctrl-C comes in there, Python 3.11 takes the thread for ended
    finally:
        stop.set()
        _wake(repositories)
        deadline = time.monotonic() + _END_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _wake(repositories: Sequence[Followed]) -> None:
    for repo in repositories:
        repo.woken.set()


@contextmanager
def _free(screen: threading.Lock) -> Iterator[bool]:
    """Whether the screen was free; it isn't for others in the block."""
    is_free = screen.acquire(blocking=False)
    try:
        yield is_free
    finally:
        if is_free:
            screen.release()


def _until(stop: threading.Event, progress: Progress) -> Progress:
    """Ends the thread whose work reports to it, silently."""

    def check() -> None:
        if stop.is_set():
            raise SystemExit

    return Checked(progress, check)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _is_watched(repo: Repository, refresh: Callable[[], After], stop: threading.Event) -> bool:
    """True when the watch has ended, False when there is nothing to watch at the moment."""
    try:
        watch(repo, refresh, stop)
    except OSError as error:
        print(f"homespun: {repo.name}: can't be watched ({error}); trying again later", file=sys.stderr, flush=True)
        return False
    return True


def index_once(
    config: RepositoryConfig,
    settings: Settings,
    progress: Progress,
    memory: IndexMemory | None = None,
    model: BaseModel | None = None,
) -> Indexed:
    """Open (or clone, or fetch) a repository and bring its index up to date.

    Raises HomespunError: the base model or the repository can't be used, or another process is indexing it.
    """
    started = time.monotonic()
    data = DataDir(settings.data_root)
    model = model or BaseModel.load(settings)
    repo = open_repository(
        config,
        data,
        branch=settings.branch,
        timeout_s=settings.git_timeout_s,
        max_clone_mb=settings.max_clone_mb,
        progress=progress,
    )
    with locked(data.locks / f"index-{repo.id}.lock", f"indexing of {repo.name}"):
        path = index_repository(
            repo,
            settings=settings,
            data=data,
            model=model.files,
            tokenizer=model.tokenizer,
            progress=progress,
            memory=memory,
        )
    manifest = read_manifest(path, KIND, FORMAT)
    return Indexed(repo=repo, path=path, manifest=manifest, seconds=time.monotonic() - started)


def summary(indexed: Indexed) -> str:
    info = indexed.manifest.info
    counts = f"{info['files']:,} files, {info['lines']:,} lines, {info['chunks']:,} chunks in {indexed.seconds:.1f} s"
    lines = [f"{indexed.repo.name}: {counts}"]
    languages, skipped = info["languages"], info["skipped"]
    assert isinstance(languages, Mapping) and isinstance(skipped, Mapping)
    lines.append(f"  languages: {_listed(languages)}")
    if skipped:
        lines.append(f"  left out:  {_listed(skipped)}")
    return "\n".join(lines)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
