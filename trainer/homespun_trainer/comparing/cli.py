"""`homespun eval REPO`: measures every layer on a repository, prints a table and writes a page."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from homespun_core import personal, storage
from homespun_core.config import EVAL, INDEX, Settings
from homespun_core.errors import ConfigError, ModelError, RepositoryError
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_core.registry import Adapter
from homespun_core.repositories import RepositoryConfig
from homespun_core.storage import locked
from homespun_core.types import EvalTask, ModelFiles, Progress
from homespun_indexer.corpus import FILES, TIME, CorpusReader, build_corpus
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.past import Past
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.reader import IndexReader
from homespun_indexer.repository import Repository, open_repository
from homespun_indexer.since import Since, commits_after, position_of, tasks_in, tasks_since
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer import page, report
from homespun_trainer.cli.judging import opened_engine
from homespun_trainer.comparing import adapters
from homespun_trainer.comparing.arms import compare
from homespun_trainer.comparing.score_log import ScoreLog
from homespun_trainer.evaluate import Lookup
from homespun_trainer.examples import Retrieve
from homespun_trainer.gate import MIN_TASKS
from homespun_trainer.heads import held_out_of
from homespun_trainer.job import Corpus, Job, Part
from homespun_trainer.lineage import Member, lineage_of

SCORES_VERSION = 5
"""Goes up when the code scores the same completion otherwise, or makes another one."""
_WEIGHTS = "adapter_model.safetensors"

_EPILOG = """\
what is compared, all at the same places, with the server's own prompts, and the index of the commit before the one that
a line was written in, as a server has it that follows the repository:
  base                      the model alone
  base+datastore            and a voice of what followed the text elsewhere, in the repository and in the file
  base+random snippets      a control: snippets of another place of the repository
  base+retrieval            with the snippets the server would find
  base+retrieval+datastore  with both
  other adapter+retrieval   a control: an adapter of other code (--other)
  adapter, +retrieval       yours
  all together              as people are served

which adapter: what people are served in the repository, be it its own or a shared one ([[adapter]]) that it is lent.
Of the name of a shared adapter, each of its repositories is measured with that one.

examples:
  homespun eval ~/code/shop --since 2026-06-01 --places 1000
  homespun eval team
  homespun eval ~/code/shop --adapter @team/20260601-101500-0a1b2c3d
  homespun eval ~/code/shop --for ada
  homespun eval ~/code/shop --adapter none --base-model /models/Qwen2.5-Coder-1.5B

Scores are kept: an evaluation that was stopped goes on, and with the same --since more places cost
only themselves.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to evaluate."""

    adapter: str = adapters.LIVE
    """A version, `live` or `none`; of a shared adapter `@team` or `@team/VERSION`."""
    wish: Wish | None = None
    """Of somebody's own adapter, of which `adapter` then is a version."""
    other: Path | None = None
    since: str | None = None
    places: int | None = None
    """None is the setting's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeldOut:
    cut: str
    exclude: frozenset[str]
    tasks: list[EvalTask]
    split: str
    num_possible: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "repository",
        metavar="REPO",
        nargs="?",
        default=argparse.SUPPRESS,
        help="path or URL of a git repository, or name of a shared adapter: then each of its repositories",
    )
    what.add_argument("--repo", dest="repository", metavar="REPO", default=argparse.SUPPRESS, help="the same")
    parser.add_argument(
        "--since",
        metavar="DAY_OR_COMMIT",
        help="ask for lines written after it, each with the index of the time before it"
        " (default: since the adapter, or what it stands on, was trained; without one, as long ago as the places need)",
    )
    parser.add_argument(
        "--adapter",
        metavar="VERSION",
        default=adapters.LIVE,
        help="a version, @TEAM or @TEAM/VERSION of a shared adapter, or none (default: live, what people are served)",
    )
    parser.add_argument("--for", dest="owner", metavar="USER", help="this person's own adapter")
    parser.add_argument(
        "--other", metavar="PATH", type=Path, help="directory of an adapter of other code, as a control"
    )
    parser.add_argument(
        "--places", metavar="N", type=_count, help="places to ask for (default: eval_tasks); 1000 tell two points apart"
    )
    parser.add_argument(
        "--report", metavar="FILE", type=page.file, help="where the page goes (default: the data directory)"
    )
    add_flags(parser, (EVAL, INDEX))


def run(args: argparse.Namespace) -> int:
    loaded = settings_from_args(args)
    settings, scope = loaded.settings, loaded.scope(args.repository)
    if scope is not None and (args.owner is not None or args.report):
        flag = "--report" if args.owner is None else "--for"
        raise ConfigError(f"{flag}: {scope.name} is {len(scope.repositories)} repositories; name one")
    configure_logging(settings.log_level, settings.log_format)
    wanted = Wanted(
        adapter=adapters.of_scope(scope, args.adapter) if scope else args.adapter,
        wish=personal.wish_of(DataDir(settings.data_root), args.owner) if args.owner is not None else None,
        other=args.other,
        since=args.since,
        places=args.places,
    )
    progress = progress_for_terminal(settings.progress)
    for repository in scope.repositories if scope else loaded.chosen([args.repository]):
        facts, path = evaluate_repository(repository, settings, wanted, progress, args.report)
        print(f"{facts['repository']}:")
        print(report.render_scores(facts))
        print(_what(facts))
        print(f"report: {path}", flush=True)
    return 0


def _what(facts: dict[str, Any]) -> str:
    asked = max((parts["all"]["tasks"] for parts in facts["arms"].values()), default=0)
    return (
        f"base model {facts['base_model']}, adapter {facts['adapter'] or 'none'};"
        f" {asked:,} of {facts['possible']:,} places written since {facts['corpus']['commit'][:10]}"
    )


def evaluate_repository(
    source: str | RepositoryConfig,
    settings: Settings,
    wanted: Wanted,
    progress: Progress,
    page_path: Path | None = None,
) -> tuple[dict[str, Any], Path]:
    """The facts, and where their page is. Raises HomespunError."""
    data, files = DataDir(settings.data_root), resolve_base_model(settings.base_model, settings.fim_family)
    repo = open_repository(
        source,
        data,
        branch=settings.branch,
        timeout_s=settings.git_timeout_s,
        max_clone_mb=settings.max_clone_mb,
        progress=progress,
    )
    adapter = adapters.chosen(data, repo.id, wanted.adapter, files, wanted.wish)
    held_out = _held_out(repo, settings, data, wanted, adapter, progress)
    kept = data.evaluations(personal.personal_id(wanted.wish.user, repo.id) if wanted.wish else repo.id)
    with locked(data.locks / f"eval-{kept.name}.lock", f"evaluation of {repo.name}"):
        facts = _compared(repo, files, settings, data, held_out, adapter, wanted.other, kept, progress)
    final = page_path or kept / page.PAGE
    final.parent.mkdir(parents=True, exist_ok=True)
    final.write_text(page.render(repo.name, facts), encoding="utf-8")
    return facts, final


def _held_out(
    repo: Repository, settings: Settings, data: DataDir, wanted: Wanted, adapter: Adapter | None, progress: Progress
) -> _HeldOut:
    """Lines written since `since`, else since the newest code that the adapter or what it stands on was made of; where
    whole files were held out from these, and little was written since, those of them; else as a corpus does."""
    places, members = wanted.places or settings.eval_tasks, lineage_of(adapter.path if adapter else None, data)
    held_out = frozenset[str]().union(*(held_out_of(member.report, repo.id) for member in members.values()))
    since = wanted.since or _newest_cut(repo, members)
    if since is None:
        found = _in_corpus(repo, settings, data, places, progress)
    elif wanted.since or not held_out or position_of(repo, since) is None:
        found = _by_time(tasks_since(repo, settings, data, since, places, progress))
    else:
        enough = _enough_since(repo, settings, data, since, places, progress)
        found = enough or _by_files(tasks_in(repo, settings, data, since, held_out, places), held_out)
    return _new_to(members, found, repo)


def _newest_cut(repo: Repository, members: Mapping[str, Member]) -> str | None:
    cuts = [cut for member in members.values() if (cut := member.cut(repo.id))]
    positions = {cut: at for cut in cuts if (at := position_of(repo, cut)) is not None}
    return min(positions, key=lambda cut: positions[cut]) if positions else next(iter(cuts), None)


def _by_time(found: Since) -> _HeldOut:
    return _HeldOut(
        cut=found.commit, exclude=frozenset(), tasks=list(found.tasks), split=TIME, num_possible=found.num_possible
    )


def _by_files(found: Since, held_out: frozenset[str]) -> _HeldOut:
    return replace(_by_time(found), exclude=held_out, split=FILES)


def _enough_since(
    repo: Repository, settings: Settings, data: DataDir, since: str, places: int, progress: Progress
) -> _HeldOut | None:
    with suppress(RepositoryError):  # nothing was written since
        found = tasks_since(repo, settings, data, since, places, progress)
        return _by_time(found) if len(found.tasks) >= min(places, MIN_TASKS) else None
    return None


def _in_corpus(repo: Repository, settings: Settings, data: DataDir, places: int, progress: Progress) -> _HeldOut:
    corpus = CorpusReader.open(
        build_corpus(repo, settings=replace(settings, eval_tasks=places), data=data, progress=progress)
    )
    tasks, split = corpus.tasks(), corpus.manifest.sources["split"]
    if tasks and split == TIME:
        return _by_time(tasks_since(repo, settings, data, corpus.cut, places, progress))
    if not tasks:
        raise RepositoryError(f"{repo.identity}: no line to ask for; it has too little history and too few files")
    return _HeldOut(
        cut=corpus.cut,
        exclude=corpus.held_out,
        tasks=tasks,
        split=split,
        num_possible=int(corpus.report.get("tasks_possible", len(tasks))),
    )


def _new_to(members: Mapping[str, Member], found: _HeldOut, repo: Repository) -> _HeldOut:
    """Without what any of them has learned from: an adapter that has seen the places looks better than it is."""
    learned = [member.has_learned(repo.id, partial(commits_after, repo)) for member in members.values()]
    if None in learned:
        print("homespun: the adapter, or one beneath it, doesn't say what it saw: it may have seen these very lines")
    tasks = [task for task in found.tasks if not any(has_learned(task) for has_learned in learned if has_learned)]
    if not tasks:
        raise RepositoryError(
            f"{repo.identity}: the adapter has learned from all {len(found.tasks)} lines to ask for;"
            " choose a later --since, or wait until more is written"
        )
    if left_out := len(found.tasks) - len(tasks):
        print(f"homespun: {left_out} of {len(found.tasks)} lines are left out, since the adapter has learned from them")
    return replace(found, tasks=tasks)


def _compared(
    repo: Repository,
    files: ModelFiles,
    settings: Settings,
    data: DataDir,
    held_out: _HeldOut,
    adapter: Adapter | None,
    other: Path | None,
    kept: Path,
    progress: Progress,
) -> dict[str, Any]:
    job_of = _prepared(repo, files, settings, data, held_out, progress)
    with job_of as (job, snapshot), opened_engine(files, settings) as engine:
        names = [_loaded(engine, path, version) for version, path in _both(adapter, other)]
        log = kept / f"{_fingerprint(job, snapshot, repo)}.jsonl"
        with ScoreLog(log) as known:
            facts = compare(job, engine, adapter=names[0], other=names[1], known=known, progress=progress)
    about = {"repository": repo.name, "adapter": adapters.label(adapter, repo.id) if adapter else None}
    return {**facts, **about, "possible": held_out.num_possible, "base_model": files.name}


def _both(adapter: Adapter | None, other: Path | None) -> list[tuple[str | None, Path | None]]:
    return [
        (adapter.version, adapter.path) if adapter else (None, None),
        (f"other-{_digest(other)}", other) if other else (None, None),
    ]


def _loaded(engine: Any, path: Path | None, version: str | None) -> str | None:
    if path is not None and version is not None:
        engine.load_adapter(version, path)
    return version


def _digest(adapter: Path) -> str:
    try:
        return hashlib.sha256((adapter / _WEIGHTS).read_bytes()).hexdigest()[:16]
    except OSError:
        raise ModelError(f"--other: {adapter}: there is no {_WEIGHTS}; give the directory of an adapter") from None


@contextmanager
def _prepared(
    repo: Repository, files: ModelFiles, settings: Settings, data: DataDir, held_out: _HeldOut, progress: Progress
) -> Iterator[tuple[Job, str]]:
    """What to judge, and the fingerprint of the index as of the cut. A line that was written after it is asked for with
    the index of the commit before its own, which a server that follows the repository had then."""
    tokenizer, tasks = load_tokenizer(files), held_out.tasks
    with Past(repo, settings, data, files, tokenizer, held_out.exclude) as past:
        snapshot = past.at(held_out.cut, progress).manifest.fingerprint
        if held_out.split == TIME:
            tasks = sorted(tasks, key=lambda task: -past.age(task.commit))

        def index_at(task: EvalTask) -> IndexReader | None:
            return past.before(task.commit) if held_out.split == TIME else past.at(held_out.cut)

        def retrieve_at(task: EvalTask) -> Retrieve:
            index = index_at(task)
            return lambda query: index.search(query, settings.snippet_count) if index else ()

        def lookup(task: EvalTask) -> Lookup:
            index = index_at(task)
            return partial(index.continuations, without=task.path) if index else lambda ids: (0, {})

        sources = {"repository": repo.identity, "commit": held_out.cut, "head": repo.head, "split": held_out.split}
        corpus = Corpus(
            fingerprint="",
            sources=sources,
            documents=(),
            tasks=tasks,
            retrieve=lambda query: (),
            retrieve_at=retrieve_at,
            lookup=lookup,
            report={},
        )
        yield (
            Job(
                id=repo.id,
                name=repo.name,
                parts=(Part(id=repo.id, name=repo.name, corpus=corpus),),
                files=files,
                tokenizer=tokenizer,
                settings=settings,
                data=data,
                find_secrets=lambda text: (),
            ),
            snapshot,
        )


def _fingerprint(job: Job, snapshot: str, repo: Repository) -> str:
    """Of all that a score depends on, arm and place aside. What is indexed of later commits depends on the rules."""
    settings, is_healing = job.settings, job.prompt_builder().is_healing
    shape = [settings.max_prompt_tokens, settings.max_new_tokens, settings.snippet_count, settings.dtype, is_healing]
    rules = [repo.rules.key(), settings.max_file_kb, repo.max_repo_mb or settings.max_repo_mb]
    model = [SCORES_VERSION, job.files.digest, job.files.family]
    return storage.fingerprint(*model, snapshot, rules, job.name, shape)[:16]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
