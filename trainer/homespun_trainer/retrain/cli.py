"""`homespun retrain [REPO...]`: gives the policy the indexer's view of repositories and the server's engine."""

from __future__ import annotations

import argparse
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from homespun_core import nudges, registry
from homespun_core.children import Children, StopRequest, sources_as_arguments
from homespun_core.config import INDEX, RETRAIN, TRAIN, Settings
from homespun_core.errors import ConfigError
from homespun_core.fim import line_ends
from homespun_core.loading import LoadedSettings, add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir, is_remote, repo_id, repo_identity_on_disk
from homespun_core.registry import Adapter
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import write_atomic
from homespun_core.types import EvalTask, ModelFiles, SearchQuery, SilentProgress, Snippet
from homespun_indexer import forgotten
from homespun_indexer.authorship import own_bytes
from homespun_indexer.changes import changed_source
from homespun_indexer.fresh import fresh_places
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.people import author_hash
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.evaluate import Bench, Lookup
from homespun_trainer.forget.effects import take_rest_away
from homespun_trainer.heads import corpus_of
from homespun_trainer.page import file as page_file
from homespun_trainer.retrain import loop
from homespun_trainer.retrain.drift import MIN_PLACES, FreshPlace, num_places, places_of
from homespun_trainer.retrain.page import Chapter, page
from homespun_trainer.retrain.policy import Rules, rules_of
from homespun_trainer.retrain.roll import Roll, Watched
from homespun_trainer.retrain.subject import Sight, Subject, recipe_digest

_EPILOG = """\
examples:
  homespun retrain --dry-run           what would be trained now, and why or why not
  homespun retrain                     train that, then end
  homespun retrain --watch             keep looking; `homespun up` does this by itself
  homespun retrain --report drift.html how the live adapters do on fresh code, week by week

A run that is stopped (Ctrl-C, the end of retrain_window, a reboot) goes on from its checkpoint next time.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "repositories",
        nargs="*",
        metavar="REPO",
        help="path or URL of a git repository, or name of a configured one or of a shared adapter (default: all there"
        " are); people's own adapters for these come with them",
    )
    parser.add_argument("--watch", action="store_true", help="go on until stopped, and train whenever it is due")
    parser.add_argument("--dry-run", action="store_true", help="only say what is due and why, or why not")
    parser.add_argument("--no-fetch", action="store_true", help="leave fetching to `homespun index --watch`")
    parser.add_argument("--jobs", action="store_true", help="let workers train, through the server's queue")
    parser.add_argument(
        "--most",
        type=int,
        default=1,
        metavar="N",
        help="with --jobs --watch, trainings at a time (default: %(default)s)",
    )
    parser.add_argument("--no-drift", action="store_true", help="don't measure live adapters on fresh code")
    parser.add_argument("--report", type=page_file, metavar="FILE", help="write a page of plots of that, and end")
    add_flags(parser, (RETRAIN, TRAIN, INDEX))


def run(args: argparse.Namespace) -> int:
    """1 when a repository can't be read or its training failed; the others are all the same."""
    if args.most < 1 or (args.most > 1 and not args.jobs):
        raise ConfigError(f"--most {args.most}: must be 1 or more, and needs --jobs: here trainings share this machine")
    loaded = settings_from_args(args)
    settings = loaded.settings
    configure_logging(settings.log_level, settings.log_format)
    rules, data = rules_of(settings), DataDir(settings.data_root)
    roll, sources = _roll(args, loaded, data, rules)
    if args.report is not None:
        return _report(list(roll), args.report)
    request = StopRequest()
    train = (
        _by_worker(settings, data, request, None if args.watch else {word: id for id, word in sources.items()})
        if args.jobs
        else _here(settings, args.config, request, sources)
    )
    looked_at: Iterable[Subject] = roll if args.dry_run else _Forgetting(roll, data)
    if args.watch and not args.dry_run:
        loop.watch(looked_at, rules, train, request, most=args.most, measures=not args.no_drift)
        return 0
    return loop.once(list(looked_at), rules, train, measures=not args.no_drift, is_dry=args.dry_run)


def _roll(args: argparse.Namespace, loaded: LoadedSettings, data: DataDir, rules: Rules) -> tuple[Roll, dict[str, str]]:
    """And the repositories' sources by id. A shared adapter is on it when it is named, or all its repositories are."""
    settings = loaded.settings
    files = resolve_base_model(settings.base_model, settings.fim_family)
    named = {word: scope for word in args.repositories if (scope := loaded.scope(word)) is not None}
    words = [word for word in args.repositories if word not in named]
    configs = loaded.chosen(words) if words or not named else ()
    sources = sources_as_arguments(loaded, words) if configs else []
    view = functools.cache(
        lambda config: _View(config, settings, data, files, is_fetched=not args.no_fetch)
    )  # a repository of a shared adapter is looked at once
    watched = [_watched(view(config), source) for config, source in zip(configs, sources, strict=True)]
    scopes = [s for s in loaded.scopes if s in named.values() or set(s.repositories) <= set(configs)]
    roll = Roll(
        watched,
        scopes,
        lambda scope: [view(config) for config in scope.repositories],
        data=data,
        rules=rules,
        recipe=recipe_digest(settings, files.digest),
        base_digest=files.digest,
    )
    return roll, {repository.id: repository.word for repository in watched}


class _Forgetting:
    """Whom retraining is about; before each look, what a `homespun forget` has left is taken away."""

    def __init__(self, subjects: Iterable[Subject], data: DataDir) -> None:
        self._subjects, self._data = subjects, data
        self._said: list[str] = []

    def __iter__(self) -> Iterator[Subject]:
        problems = forgotten.finish_all(self._data, functools.partial(take_rest_away, self._data))
        for problem in problems:
            if problem not in self._said:
                print(f"homespun: not all that is to be forgotten is gone: {problem}", file=sys.stderr, flush=True)
        self._said = problems
        return iter(self._subjects)


def _watched(view: _View, source: str) -> Watched:
    return Watched(word=source, id=view.id, view=view, own_changes=view.own_changes)


def _here(settings: Settings, config: Path | None, request: StopRequest, sources: Mapping[str, str]) -> loop.Train:
    return loop.train_in_child(Children(settings, config, request), sources)


def _by_worker(
    settings: Settings, data: DataDir, request: StopRequest, followed: Mapping[str, str] | None
) -> loop.Train:
    """`followed`, ids by source: somebody looks on. They see what the worker prints, and in the end a place that the
    adapter changed, which is code and so in no job's log."""
    # Imported here: where nobody asks a server, nothing of it is needed.
    from homespun_server.jobs.client import WorkerClient
    from homespun_server.jobs.following import FollowedClient
    from homespun_server.jobs.queue import own_token

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of each look
    made = WorkerClient if followed is None else FollowedClient
    train = loop.train_by_worker(made(settings.server_url, own_token(settings.worker_token, data)), request)

    def shown(source: str, commit: str, is_enough: Callable[[], bool]) -> int | None:
        status, id = train(source, commit, is_enough), (followed or {}).get(source)
        if status == 0 and id is not None and (example := _example(data, id)):
            print(example, flush=True)
        return status

    return shown


def _example(data: DataDir, repository: str) -> str:
    """A completion before and after the newest adapter; empty without one."""
    from homespun_trainer.report import render_example

    place = data.adapters(repository)
    newest = registry.versions(place)[-1:]
    return render_example(registry.read_report(place / newest[0]).get("example")) if newest else ""


def _report(subjects: list[Subject], path: Path) -> int:
    found = loop.look(subjects, time.time())
    chapters = [
        Chapter(
            name=subject.name,
            now=loop.in_words(found[subject.source]),
            scores=subject.scores(),
            acceptance={week: accepted / shown for week, (shown, accepted) in subject.acceptance().items()},
            receptions=subject.receptions(),
        )
        for subject in subjects
        if subject.source in found
    ]
    write_atomic(path, page(chapters))
    loop.say(f"wrote {path}")
    return int(len(found) < len(subjects))


class _View:
    """A repository as the indexer sees it, and an adapter as the engine does."""

    def __init__(
        self, config: RepositoryConfig, settings: Settings, data: DataDir, files: ModelFiles, *, is_fetched: bool
    ) -> None:
        self._config, self._settings, self._data, self._files = config, settings, data, files
        self._is_fetched = is_fetched
        self._fetched_at = 0.0
        self._stamp: tuple[int, int] | None = None
        self._repo: Repository | None = None

    def look(self) -> Sight:
        self._repo = open_repository(
            self._config,
            self._data,
            branch=self._settings.branch,
            timeout_s=self._settings.git_timeout_s,
            max_clone_mb=self._settings.max_clone_mb,
            is_fetched=self._is_fetching_due(),
            progress=SilentProgress(),
        )
        is_forgotten = forgotten.is_whole(forgotten.load(self._data), self._repo.id)
        return Sight(repo=self._repo.id, name=self._repo.name, head=self._repo.head, is_forgotten=is_forgotten)

    @property
    def id(self) -> str:
        source = self._config.source
        return repo_id(source if is_remote(source) else repo_identity_on_disk(source))

    def own_changes(self, since: str | None, authors: Sequence[str]) -> int:
        assert self._repo is not None, "look first"
        return own_bytes(self._repo, since, authors, author_hash(self._data))

    def changed(self, since: str | None) -> tuple[int, int]:
        assert self._repo is not None, "look first"
        change = changed_source(self._repo, settings=self._settings, since=since)
        return change.added, change.total

    def measure(self, adapter: Adapter, shared_by: int = 1) -> Sequence[FreshPlace]:
        # Imported here: torch takes seconds and memory, and most looks have no use for it.
        from homespun_trainer.cli.judging import opened_engine
        from homespun_trainer.job import prompt_builder

        assert self._repo is not None, "look first"
        repo, count = self._repo, num_places(self._settings.drift_places, shared_by)
        corpus = corpus_of(adapter.report, repo.id)
        if not count or "head" not in corpus or "commit" not in corpus:
            return ()
        places = fresh_places(repo, self._settings, self._data, since=corpus["head"], count=count)
        if len(places) * shared_by < MIN_PLACES:
            return ()
        tokenizer = load_tokenizer(self._files)
        frozen = index_repository(
            repo,
            settings=self._settings,
            data=self._data,
            model=self._files,
            tokenizer=tokenizer,
            progress=SilentProgress(),
            commit=corpus["commit"],
        )
        with IndexReader.open(frozen, tokenizer) as index, opened_engine(self._files, self._settings) as engine:

            def retrieve(query: SearchQuery) -> list[Snippet]:
                return list(index.search(query, self._settings.snippet_count)) if self._settings.retrieval else []

            def lookup(task: EvalTask) -> Lookup:
                return functools.partial(index.continuations, without=task.path)

            engine.load_adapter(adapter.version, adapter.path)
            builder = prompt_builder(self._files, tokenizer, self._settings)
            ends = line_ends(builder.format, tokenizer, len(tokenizer.spelled))
            bench = Bench(
                builder=builder,
                repo=repo.name,
                retrieve=lambda _: retrieve,
                generate=engine.generate,
                score=engine.score,
                end_ids=ends,
                mixing=engine.mixing(lookup, ends) if self._settings.mixing else None,
            )
            return places_of(repo.id, places, bench, adapter)

    def _is_fetching_due(self) -> bool:
        """As often as the index does it, and when somebody says that there was a push."""
        if not self._is_fetched or not is_remote(self._config.source):
            return False
        stamp, now = nudges.stamp(self._data, repo_id(self._config.source)), time.time()
        if stamp == self._stamp and now - self._fetched_at < self._settings.fetch_minutes * 60:
            return False
        self._stamp, self._fetched_at = stamp, now
        return True
