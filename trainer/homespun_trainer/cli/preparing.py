"""What a training is about, made from its repositories: corpora, and indexes frozen at their cuts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import groupby

from homespun_core import demand, personal, storage
from homespun_core.config import Settings
from homespun_core.errors import TooLittleCode
from homespun_core.paths import DataDir, is_remote, repo_id, repo_identity_on_disk
from homespun_core.personal import Wish
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.types import ModelFiles, Progress, SearchQuery, Snippet, Tokenizer
from homespun_indexer import corpus_report, forgotten
from homespun_indexer.apart import Share, apart
from homespun_indexer.corpus import CorpusReader, Owner, build_corpus
from homespun_indexer.forgotten import Forgotten
from homespun_indexer.indexing import index_repository
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, at_commit, open_repository
from homespun_indexer.secrets import redacted
from homespun_indexer.since import commits_after
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer import own, weighing
from homespun_trainer.examples import Mix, worth_learning
from homespun_trainer.job import Corpus, Job, LeftOut, Part, Unforgotten
from homespun_trainer.publishing import ForgottenError
from homespun_trainer.trained_on import Source


def learnt_from(scope: ScopeConfig, data: DataDir) -> Sequence[RepositoryConfig]:
    """Its repositories, without those that are to be forgotten as a whole."""
    requests = forgotten.load(data)
    left = [each for each in scope.repositories if not forgotten.is_whole(requests, id_of(each))]
    if not left:
        raise TooLittleCode(f"{scope.name}: all of its repositories are to be forgotten; `homespun forget --list`")
    return left


def called(repos: Sequence[Repository], scope: ScopeConfig | None, wish: Wish | None) -> tuple[str, str]:
    """The adapter's directory name, and what it is called. Whoever reads that may not be who may know their name."""
    if scope is not None:
        return scope.id, scope.name
    repo = repos[0]
    return (personal.personal_id(wish.user, repo.id), f"{repo.name} for {wish.user}") if wish else (repo.id, repo.name)


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
    return any(request.is_about(s.repository or "") and request.covers(s.all_names, s.authors) for s in seen)


def id_of(source: str | RepositoryConfig) -> str:
    address = source if isinstance(source, str) else source.source
    return repo_id(address if is_remote(address) else repo_identity_on_disk(address))


def opened(
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

    Raises TooLittleCode when none has anything to train on."""
    tokenizer = load_tokenizer(files)
    id, name = called(repos, scope, wish)
    owner, unforgotten = Owner(place=id, authors=wish.authors) if wish else None, _unforgotten(data)
    mix = own.OWN_LINES if wish else Mix()
    with ExitStack() as stack:
        parts: list[Part] = []
        left_out: list[LeftOut] = []
        for repo in sorted(repos, key=lambda repo: repo.id):
            try:
                part = stack.enter_context(_part(repo, files, tokenizer, settings, data, progress, owner))
                parts.append(_with_places(part, mix, tokenizer))
            except TooLittleCode as reason:
                if scope is None:
                    raise
                left_out.append(LeftOut(id=repo.id, head=repo.head, why=str(reason)))
        if not parts:
            raise TooLittleCode(f"{name}: none of its repositories has anything to train on")
        yield Job(
            id=id,
            name=name,
            mix=mix,
            beneath=own.beneath(data, parts[0].id, files.digest, wish) if wish else None,
            left_out=left_out,
            wish=wish,
            unforgotten=unforgotten,
            parts=tuple(_apart(parts)),
            files=files,
            tokenizer=tokenizer,
            settings=settings,
            data=data,
            find_secrets=secrets_in,
        )


def secrets_in(text: str) -> list[str]:
    """What redaction takes out of it. Places inside of a secret have none in the redacted text; its first one has."""
    clean = redacted(text)
    hidden = [at for at in range(len(text)) if clean.place_of(at) is None] if clean.found else []
    runs = [[at for _, at in run] for _, run in groupby(enumerate(hidden), lambda pair: pair[1] - pair[0])]
    return [text[run[0] - 1 : run[-1] + 1] for run in runs]


def _with_places(part: Part, mix: Mix, tokenizer: Tokenizer) -> Part:
    """Without the files that no example can be made of. Raises TooLittleCode when nothing is left."""
    corpus = part.corpus
    documents = worth_learning(corpus.documents, mix, tokenizer)
    if not documents:
        raise TooLittleCode(
            f"{part.name}: its {len(corpus.documents):,} files are too little to train on:"
            " none has a line worth learning"
        )
    without = len(corpus.documents) - len(documents)
    skipped = corpus.report["skipped"] | ({"no line worth learning": without} if without else {})
    report = {**corpus.report, **corpus_report.counts(documents), "skipped": skipped}
    return replace(part, corpus=replace(corpus, documents=documents, report=report))


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
            # With the embedder by which snippets are found.
            fingerprint=storage.fingerprint(corpus.manifest.fingerprint, index.manifest.sources["embedder_digest"]),
            sources=corpus.manifest.sources,
            documents=list(corpus.documents()),
            tasks=corpus.tasks(),
            retrieve=retrieve,
            lookup=(lambda task: partial(index.continuations, without=task.path)) if settings.mixing else None,
            report=corpus.report,
            unlearnable=corpus.unlearnable(),
            touched=corpus.touched(with_snippets=settings.retrieval),
            commits_after=partial(commits_after, repo),
        )
        if settings.demand_weights == "auto" and owner is None:
            asked, kept = demand.read(data).get(repo.id, {}), demand.read_kept(data).get(repo.id, {})
            found = by_demand(found, asked, kept)
        yield Part(id=repo.id, name=repo.name, corpus=found)


def by_demand(corpus: Corpus, asked: Mapping[str, int], kept: Mapping[str, int]) -> Corpus:
    """Weighed by what was asked for in each language, and what was kept in each file."""
    by, by_file = weighing.factors(asked, corpus.documents), weighing.file_factors(kept, corpus.documents)
    if not by and not by_file:
        return corpus
    kinds = Counter(f"{factor:.2f}" for factor in by_file.values())
    documents = weighing.weighed(corpus.documents, by, by_file)
    weights = {"demand_weights": by, "file_weights": dict(sorted(kinds.items(), reverse=True))}
    return replace(
        corpus,
        fingerprint=storage.fingerprint(corpus.fingerprint, by, *([by_file] if by_file else [])),
        documents=documents,
        report={**corpus.report, "shares": corpus_report.shares(documents), **weights},
    )
