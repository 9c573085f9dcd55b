"""`homespun train REPO`: gives the trainer the indexer's corpus and search (`preparing`), and the server's engine
(`judging`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from homespun_core import personal
from homespun_core.cli import INTERRUPTED
from homespun_core.config import INDEX, TRAIN, Settings
from homespun_core.errors import ConfigError, TooLittleCode
from homespun_core.fences import LEASE_HELP, Lease, work_under
from homespun_core.loading import LoadedSettings, add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir
from homespun_core.personal import Wish, WithdrawnError
from homespun_core.repositories import RepositoryConfig
from homespun_core.scopes import ScopeConfig
from homespun_core.storage import locked
from homespun_core.types import Progress
from homespun_indexer import forgotten
from homespun_indexer.corpus_report import summary as corpus_summary
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_server.database.opening import failures_in_one_line, open_database
from homespun_server.feedback.store import FeedbackStore
from homespun_trainer import heads, launched, own, page, report
from homespun_trainer.cli.judging import opened_engine
from homespun_trainer.cli.preparing import called, id_of, learnt_from, opened, prepared
from homespun_trainer.forget.effects import effects, take_away
from homespun_trainer.pipeline import train_repository
from homespun_trainer.preferences.rows import Shown
from homespun_trainer.preferences.tuning import tune_by_preference
from homespun_trainer.publishing import Outcome
from homespun_trainer.train import TrainingInterruptedError

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
    loaded = settings_from_args(args)
    if launched.is_helper():  # torchrun started several of us; the first one is the run
        return launched.help_out(loaded.settings.device)
    status = _run(args, loaded)
    if status == 0:
        launched.dismiss(loaded.settings.device)
    return status


def _run(args: argparse.Namespace, loaded: LoadedSettings) -> int:
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
    repos = [opened(each, settings, data, progress, commits.get(id_of(each)) or commit) for each in sources]
    id, name = called(repos, scope, wish)
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
            time=each.kept.time,
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


@contextmanager
def _swept(data: DataDir, wish: Wish | None, id: str) -> Iterator[None]:
    """However a training ends whose owner has taken it back, nothing of it stays. Raises WithdrawnError then. Nobody
    else trains it meanwhile, so that what is there is of this wish or an earlier one."""
    with personal.standing(data, wish):
        pass
    try:
        yield
    finally:  # also after an error, such as for files that were deleted under it
        if not personal.stands(data, wish):
            personal.remove(data, id)
            raise WithdrawnError(f"{id}: its owner has taken it back; nothing is kept")


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
