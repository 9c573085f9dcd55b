"""`homespun train REPO`: gives the trainer the indexer's corpus and search, and the server's engine."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from homespun_core import demand, personal, storage
from homespun_core.cli import INTERRUPTED
from homespun_core.config import INDEX, TRAIN, Settings, add_flags, settings_from_args
from homespun_core.errors import ConfigError, NoSourceFiles, TooLittleCode
from homespun_core.fences import LEASE_HELP, Lease, work_under
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir, is_remote, repo_id, repo_identity_on_disk
from homespun_core.personal import Wish, WithdrawnError
from homespun_core.prompt import Prompt
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.storage import locked
from homespun_core.types import ModelFiles, Progress, SearchQuery, Snippet, Tokenizer
from homespun_indexer import forgotten
from homespun_indexer.apart import Share, apart
from homespun_indexer.corpus import CorpusReader, Owner, build_corpus
from homespun_indexer.corpus import summary as corpus_summary
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.indexing import index_repository
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, at_commit, open_repository
from homespun_indexer.secrets import redact
from homespun_indexer.since import commits_after
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.database.opening import failures_in_one_line, open_database
from homespun_server.drafts import drafter
from homespun_server.engine.protocol import Engine, EngineRequest, Ids, Tree
from homespun_server.engine.spelling import Vocabulary
from homespun_server.engine.torch_engine import TorchEngine
from homespun_server.feedback.store import FeedbackStore
from homespun_trainer import heads, launched, own, page, report, weighing
from homespun_trainer.evaluate import Written
from homespun_trainer.examples import Mix
from homespun_trainer.forget.effects import effects, take_away
from homespun_trainer.job import Corpus, Job, LeftOut, Part, Unforgotten
from homespun_trainer.pipeline import train_repository
from homespun_trainer.preferences.rows import Shown
from homespun_trainer.preferences.tuning import tune_by_preference
from homespun_trainer.publishing import ForgottenError, Outcome
from homespun_trainer.train import TrainingInterruptedError
from homespun_trainer.trained_on import Source

logger = logging.getLogger(__name__)

_GOES_ON = "the checkpoint is saved, the same command goes on from it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "repository", metavar="REPO", help="path or URL of a git repository, or name of a shared adapter ([[adapter]])"
    )
    parser.add_argument(
        "--commit",
        metavar="ID",
        help="train on what this commit holds (default: the newest); of a shared adapter: REPOSITORY=ID,REPOSITORY=ID",
    )
    parser.add_argument(
        "--for",
        dest="owner",
        metavar="USER",
        help="an adapter for this person alone, who asked for one, of their lines",
    )
    parser.add_argument(
        "--preferences",
        action="store_true",
        help="tune the live adapter by what people took and dismissed of the completions that the server keeps"
        " (keep_completions), on this machine or with its database_url",
    )
    parser.add_argument("--lease", type=int, metavar="N", help=LEASE_HELP)
    add_flags(parser, (TRAIN, INDEX))


def run(args: argparse.Namespace) -> int:
    """0 also when the adapter is turned down, or there is too little code: the command did what it is for."""
    if launched.is_helper():  # torchrun started several of us; the first one is the run
        return launched.help_out()
    status = _run(args)
    if status == 0:
        launched.dismiss()
    return status


def _run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    settings, scope = loaded.settings, loaded.scope(args.repository)
    wanted = scope or loaded.chosen([args.repository])[0]
    if args.owner is not None and scope is not None:
        raise ConfigError("--for: somebody's own adapter is of one repository, on top of what everybody has there")
    if args.preferences and (scope is not None or args.owner is not None):
        raise ConfigError("--preferences: is about one repository, on top of what everybody has there")
    wish = personal.wish_of(DataDir(settings.data_root), args.owner) if args.owner is not None else None
    configure_logging(settings.log_level, settings.log_format)
    if args.lease is not None:
        work_under(Lease("train", args.lease))
    try:
        progress = progress_for_terminal(settings.progress)
        outcome = train(wanted, settings, progress, args.commit, wish, by_preference=args.preferences)
    except TooLittleCode as reason:
        print(f"homespun: {reason}", flush=True)
        return 0
    except TrainingInterruptedError:
        how = "the same command begins anew" if args.preferences else _GOES_ON
        print(f"homespun: stopped; {how}", file=sys.stderr)
        return INTERRUPTED
    print(summary(outcome, with_example=settings.progress != "json"), flush=True)
    return 0


def train(
    source: str | RepositoryConfig | ScopeConfig,
    settings: Settings,
    progress: Progress,
    commit: str | None = None,
    wish: Wish | None = None,
    *,
    by_preference: bool = False,
) -> Outcome:
    """Corpora, indexes as of their cuts, adapter, gate, registry. A `commit` is looked for in what was fetched before.

    Raises HomespunError and TrainingInterruptedError. A shared adapter isn't trained while one of its repositories
    can't be read; one without source is left out. With a `wish`, somebody's own of the repository.
    """
    data = DataDir(settings.data_root)
    files = resolve_base_model(settings.base_model, settings.fim_family)
    scope = source if isinstance(source, ScopeConfig) else None
    sources = learnt_from(source, data) if isinstance(source, ScopeConfig) else [source]
    commits = heads.parted(commit) if scope is not None and commit is not None else {}
    repos = [_opened(each, settings, data, progress, commits.get(_id(each)) or commit) for each in sources]
    id, name = _called(repos, scope, wish)
    with (
        _taken_away(data, [id, *(repo.id for repo in repos)]),
        locked(data.locks / f"train-{id}.lock", f"training on {name}"),
        _swept(data, wish, id),
        prepared(repos, files, settings, data, progress, scope, wish) as job,
    ):
        for each in job.left_out:
            print(f"left out: {each.why}", flush=True)
        for part in job.parts:
            print(*([f"{part.name}:"] if scope else []), corpus_summary(part.corpus.report), flush=True)
        if by_preference:
            beneath = own.beneath(data, job.id, files.digest)
            return tune_by_preference(
                replace(job, beneath=beneath),
                shown(settings, data, job.id),
                open_engine=lambda: opened_engine(files, settings),
                progress=progress,
            )
        return train_repository(job, open_engine=lambda: opened_engine(files, settings), progress=progress)


def learnt_from(scope: ScopeConfig, data: DataDir) -> Sequence[RepositoryConfig]:
    """Its repositories, without those that are to be forgotten as a whole."""
    requests = forgotten.load(data)
    left = [each for each in scope.repositories if not forgotten.is_whole(requests, _id(each))]
    if not left:
        raise TooLittleCode(f"{scope.name}: all of its repositories are to be forgotten; `homespun forget --list`")
    return left


def shown(settings: Settings, data: DataDir, repository: str) -> Sequence[Shown]:
    """What the server keeps of completions there, with what became of them."""
    store = FeedbackStore(open_database(settings.database_url, data.database))
    try:
        with failures_in_one_line():
            told = store.told(repository)
    finally:
        store.close()
    return [
        Shown(
            id=each.kept.completion,
            base=each.kept.base,
            paths=each.kept.paths,
            ids=each.kept.ids,
            opening=each.kept.opening,
            text=each.kept.text,
            accepted_characters=each.outcome.accepted_characters,
            kept_characters=each.outcome.kept_characters,
            is_dismissed=each.is_dismissed,
        )
        for each in told
    ]


def _called(repos: Sequence[Repository], scope: ScopeConfig | None, wish: Wish | None) -> tuple[str, str]:
    """The adapter's directory name, and what it is called. Whoever reads that may not be who may know their name."""
    if scope is not None:
        return scope.id, scope.name
    repo = repos[0]
    return (personal.personal_id(wish.user, repo.id), f"{repo.name} for {wish.user}") if wish else (repo.id, repo.name)


@contextmanager
def _swept(data: DataDir, wish: Wish | None, id: str) -> Iterator[None]:
    """However a training ends whose owner has taken it back, nothing of it stays. Raises WithdrawnError then. Nobody
    else trains it meanwhile, so that what is there is of this wish or an earlier one."""
    error: Exception | None = None
    with personal.standing(data, wish):
        pass
    try:
        yield
    except Exception as raised:  # noqa: BLE001 - such as for files that were deleted under it; raised again below
        error = raised
    if not personal.stands(data, wish):
        personal.remove(data, id)
        raise WithdrawnError(f"{id}: its owner has taken it back; nothing is kept") from error
    if error is not None:
        raise error


@contextmanager
def _taken_away(data: DataDir, ids: Sequence[str]) -> Iterator[None]:
    """However a training ends in which something was forgotten, what it left of that goes too, such as a corpus."""
    before = forgotten.load(data)
    try:
        yield
    finally:
        for request in (r for r in forgotten.load(data) if r not in before):
            for effect in effects(data, ids, request):
                take_away(data, effect)


def _unforgotten(data: DataDir) -> Unforgotten:
    before = forgotten.load(data)

    @contextmanager
    def unforgotten(seen: Sequence[Source] | None) -> Iterator[None]:
        with forgotten.standing(data, before) as requests:
            if requests and (seen is None or any(_covers(request, seen) for request in requests)):
                raise ForgottenError("something that it was trained on was forgotten meanwhile; train it again")
            yield

    return unforgotten


def _covers(request: Forgotten, seen: Sequence[Source]) -> bool:
    return any(request.is_about(s.repository or "") and request.covers(s.path, s.authors) for s in seen)


def _id(source: str | RepositoryConfig) -> str:
    address = source if isinstance(source, str) else source.source
    return repo_id(address if is_remote(address) else repo_identity_on_disk(address))


def _opened(
    source: str | RepositoryConfig, settings: Settings, data: DataDir, progress: Progress, commit: str | None
) -> Repository:
    repo = open_repository(
        source,
        data,
        branch=settings.branch,
        timeout_s=settings.git_timeout_s,
        max_clone_mb=settings.max_clone_mb,
        is_fetched=commit is None,
        progress=progress,
    )
    return at_commit(repo, commit) if commit is not None else repo


@contextmanager
def prepared(
    repos: Sequence[Repository],
    files: ModelFiles,
    settings: Settings,
    data: DataDir,
    progress: Progress,
    scope: ScopeConfig | None = None,
    wish: Wish | None = None,
) -> Iterator[Job]:
    """Their corpora and the indexes frozen at their cuts, open for the time of the block. Without a scope there is one
    repository, and the adapter is its own, or with a `wish` somebody's.

    Raises TooLittleCode when none has source to train on."""
    tokenizer = load_tokenizer(files)
    id, name = _called(repos, scope, wish)
    owner, unforgotten = Owner(place=id, authors=wish.authors) if wish else None, _unforgotten(data)
    with ExitStack() as stack:
        parts: list[Part] = []
        left_out: list[LeftOut] = []
        for repo in sorted(repos, key=lambda repo: repo.id):
            try:
                parts.append(stack.enter_context(_part(repo, files, tokenizer, settings, data, progress, owner)))
            except NoSourceFiles as reason:
                if scope is None:
                    raise
                left_out.append(LeftOut(id=repo.id, head=repo.head, why=str(reason)))
        if not parts:
            raise TooLittleCode(f"{name}: none of its repositories has source files to train on")
        yield Job(
            id=id,
            name=name,
            mix=own.OWN_LINES if wish else Mix(),
            beneath=own.beneath(data, parts[0].id, files.digest) if wish else None,
            left_out=left_out,
            wish=wish,
            unforgotten=unforgotten,
            parts=tuple(_apart(parts)),
            files=files,
            tokenizer=tokenizer,
            settings=settings,
            data=data,
            count_secrets=lambda text: sum(redact(text)[1].values()),
        )


def _apart(parts: Sequence[Part]) -> list[Part]:
    shares = [Share(documents=p.corpus.documents, tasks=p.corpus.tasks, report=p.corpus.report) for p in parts]
    if len(shares) < 2:
        return list(parts)
    return [
        replace(part, corpus=replace(part.corpus, documents=s.documents, tasks=s.tasks, report=s.report))
        for part, s in zip(parts, apart(shares), strict=True)
    ]


@contextmanager
def _part(
    repo: Repository,
    files: ModelFiles,
    tokenizer: Tokenizer,
    settings: Settings,
    data: DataDir,
    progress: Progress,
    owner: Owner | None,
) -> Iterator[Part]:
    corpus = CorpusReader.open(build_corpus(repo, settings=settings, data=data, progress=progress, owner=owner))
    frozen = index_repository(
        repo,
        settings=settings,
        data=data,
        model=files,
        tokenizer=tokenizer,
        progress=progress,
        commit=corpus.cut,
        exclude=corpus.held_out,
    )
    with IndexReader.open(frozen, tokenizer) as index:

        def retrieve(query: SearchQuery) -> Sequence[Snippet]:
            return index.search(query, settings.snippet_count) if settings.retrieval else ()

        found = Corpus(
            fingerprint=corpus.manifest.fingerprint,
            sources=corpus.manifest.sources,
            documents=list(corpus.documents()),
            tasks=corpus.tasks(),
            retrieve=retrieve,
            report=corpus.report,
            unlearnable=corpus.unlearnable(),
            shown=corpus.shown() if settings.retrieval else (),
            commits_after=partial(commits_after, repo),
        )
        if settings.demand_weights == "auto" and owner is None:
            found = _by_demand(found, demand.read(data).get(repo.id, {}), demand.read_kept(data).get(repo.id, {}))
        yield Part(id=repo.id, name=repo.name, corpus=found)


def _by_demand(corpus: Corpus, asked: Mapping[str, int], kept: Mapping[str, int]) -> Corpus:
    by, by_file = weighing.factors(asked, corpus.documents), weighing.file_factors(kept, corpus.documents)
    if not by and not by_file:
        return corpus
    counts = Counter(f"{factor:.2f}" for factor in by_file.values())
    return replace(
        corpus,
        fingerprint=storage.fingerprint(corpus.fingerprint, by, *([by_file] if by_file else [])),
        documents=weighing.weighed(corpus.documents, by, by_file),
        report={**corpus.report, "demand_weights": by, "file_weights": dict(sorted(counts.items(), reverse=True))},
    )


class Judging:
    """The server's engine as the trainer's judge sees it."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self._engine, self._vocabulary = engine, Vocabulary(tokenizer.spelled)
        self._all_ids = frozenset(range(len(tokenizer.spelled)))

    def load_adapter(self, version: str, path: Path) -> None:
        self._engine.load_adapter(version, path)

    def generate(self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None) -> Written:
        opening = prompt.opening.encode()
        made = self._engine.generate(
            EngineRequest(
                ids=prompt.ids,
                max_new_tokens=max_new_tokens,
                adapter=adapter,
                end_ids=end_ids,
                constraint=self._vocabulary.beginning(opening) if opening else None,
                draft=drafter(None),
            )
        )
        return Written(ids=[t.id for t in made.tokens], is_truncated=made.stats.finish_reason != "stop")

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
        """As a completion that has no choice: what was computed of the prompt, to complete it, is used again, which
        `Engine.score` does not; six times faster (benchmarks/LOG.md)."""
        wanted = ids[start:]
        made = self._engine.generate(
            EngineRequest(
                ids=ids[:start],
                max_new_tokens=2,  # with one, nothing is drafted; the first that is free ends it
                adapter=adapter,
                end_ids=self._all_ids,
                constraint=lambda: Dictated(wanted),
                draft=lambda _: Dictated(wanted),
            )
        )
        if len(made.tokens) < len(wanted):  # the context ended
            return self._engine.score(ids, start, adapter)
        return [token.logprob for token in made.tokens[: len(wanted)]]


class Dictated:
    """Tokens that are given: as a constraint nothing else may come, as a drafter all of them are proposed at once."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids, self._at = ids, 0

    def allowed(self) -> Ids | None:
        return np.array([self._ids[self._at]], dtype=np.int64) if self._at < len(self._ids) else None

    def advance(self, token: int) -> None:
        self._at += 1

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        ids = tuple(self._ids[self._at : self._at + max_nodes])
        return Tree(ids, tuple(range(-1, len(ids) - 1)))

    def extend(self, ids: Sequence[int]) -> None:
        self._at += len(ids)


@contextmanager
def opened_engine(files: ModelFiles, settings: Settings) -> Iterator[Judging]:
    """The engine that will serve the adapter, so that it is judged as people will meet it."""
    engine = TorchEngine(
        Path(files.path), dtype=settings.dtype, device=settings.device, num_threads=settings.num_threads
    )
    try:
        yield Judging(engine, load_tokenizer(files))
    finally:
        engine.close()


def summary(outcome: Outcome, *, with_example: bool = True) -> str:
    """The example is code: it is for the eyes of whoever trains, not for logs."""
    example = report.render_example(outcome.report.get("example")) if with_example else ""
    waits = f"not live yet: {outcome.waits_for}" if outcome.waits_for else ""
    if outcome.is_new:
        parts = [report.render(outcome.report), f"adapter {outcome.version}", waits, example]
    else:
        verdict = "turned down" if not outcome.report["promote"] else "passed the gate" if waits else "live"
        parts = [f"nothing has changed since adapter {outcome.version} ({verdict}): nothing to train", waits, example]
    if (outcome.path / page.PAGE).is_file():
        parts.append(f"report: {outcome.path / page.PAGE}")
    return "\n".join(part for part in parts if part)
