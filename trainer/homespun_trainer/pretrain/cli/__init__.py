"""`homespun pretrain STEP`: gives the steps the indexer's reading and search, and the server's engine."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from homespun_core import __version__, storage
from homespun_core.config import Settings
from homespun_core.errors import ConfigError, RepositoryError, StorageError
from homespun_core.loading import settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.storage import locked
from homespun_core.types import ModelFiles, Progress
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.interrupt import deferred_signals
from homespun_trainer.placement import Placement, choose_placement
from homespun_trainer.pretrain import export as exporting
from homespun_trainer.pretrain import prepare, shards, state, text
from homespun_trainer.pretrain.allowlist import Allowed, chosen, read_allow_list
from homespun_trainer.pretrain.card import RANDOM_WEIGHTS
from homespun_trainer.pretrain.cli.evaluating import evaluate, evaluations
from homespun_trainer.pretrain.cli.flags import add_step_flags
from homespun_trainer.pretrain.cli.reading import Place, Repositories, repositories_of, shares_of
from homespun_trainer.pretrain.model import SIZES, config_of, load_model, new_model
from homespun_trainer.pretrain.prepare import Share
from homespun_trainer.pretrain.samples import PHASES
from homespun_trainer.pretrain.shards import Shards
from homespun_trainer.pretrain.training import BATCH_TOKENS, MICRO_TOKENS, Recipe, pretrain
from homespun_trainer.train import TrainingInterruptedError

logger = logging.getLogger(__name__)

_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_step_flags(parser)


def run(args: argparse.Namespace) -> int:
    settings = settings_from_args(args).settings
    configure_logging(settings.log_level, settings.log_format)
    place = Place(root=args.dir.expanduser().absolute() if args.dir else settings.data_root / "pretrain")
    with locked(place.root / f"{args.step}.lock", f"homespun pretrain {args.step}"):
        try:
            _STEPS[args.step](args, settings, place, progress_for_terminal())
        except TrainingInterruptedError:
            print("homespun: stopped; the checkpoint is saved, the same command goes on from it", file=sys.stderr)
            return _INTERRUPTED
    return 0


def _extract(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    repositories = repositories_of(args, settings, place)
    wanted = chosen(read_allow_list(args.repositories), args.only)
    there = [entry for entry in wanted if repositories.is_at_hand(entry)]
    if not there:
        raise RepositoryError(f"--mirrors: {repositories.mirrors} holds none of the {len(wanted)} on the list")
    if args.at_head:
        there = [replace(entry, commit=None) for entry in there]
    refused = text.extract(there, repositories.open, place.text, scale=args.scale, progress=progress)
    tried = {entry.name for entry in there}
    before = {name: why for name, why in place.read_refused().items() if name not in tried}
    storage.write_atomic(place.refused, json.dumps(before | refused, indent=1) + "\n")
    for reason in refused.values():
        print(f"left out: {reason}")
    if len(there) < len(wanted):
        print(f"{len(wanted) - len(there)} of the list are not in {repositories.mirrors}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Samples of one repository, for a process of its own."""

    share: Share
    repositories: Repositories
    model: ModelFiles
    passes: float

    def __call__(self) -> Path:
        def search(allowed: Allowed, commit: str, shown: frozenset[str]) -> Any:
            return self.repositories.search(allowed, commit, shown, self.model)

        return prepare.publish(
            self.share,
            self.repositories.place.samples,
            tokenizer=load_tokenizer(self.model),
            open_search=search,
            seed=self.repositories.settings.seed,
            passes=self.passes,
            num_snippets=self.repositories.settings.snippet_count,
        )


def _call(task: _Task) -> Path:
    return task()


def _prepare(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    repositories = repositories_of(args, settings, place)
    model = resolve_base_model(args.tokenizer, "auto")
    tokenizer = load_tokenizer(model)
    shards.pad_id(tokenizer)
    listed = read_allow_list(args.repositories)
    all_shares = shares_of(listed, place, args.held_out)
    if not all_shares:
        raise StorageError(f"{place.text}: no text is there; run `homespun pretrain extract` first")
    tasks = [_Task(share=s, repositories=repositories, model=model, passes=args.passes) for s in all_shares]
    paths = _in_processes(tasks, args.workers or os.cpu_count() or 1, progress)
    taken = {share.allowed.name: share.facts() for share in all_shares}
    refused = place.read_refused()
    progress.start("packing rows")
    path = shards.publish(
        place.rows,
        paths,
        facts={
            "repositories": taken,
            "refused": refused,
            "missing": [e.name for e in listed if e.name not in taken and e.name not in refused],
            "held_out_share": args.held_out,
            "passes": args.passes,
            "snippets": settings.snippet_count,
            "tokenizer": model.name,
            "seed": settings.seed,
        },
        files=prepare.held_out_files(all_shares),
        tokenizer=tokenizer,
        tokenizer_json=(Path(model.path) / "tokenizer.json").read_text(encoding="utf-8"),
        seed=settings.seed,
    )
    progress.finish(str(path))
    rows = Shards.open(place.rows)
    for part in shards.PARTS:
        print(f"{part}: {rows.num_tokens(part):,} tokens in {rows.num_rows(part):,} rows")


def _in_processes(tasks: Sequence[_Task], workers: int, progress: Progress) -> list[Path]:
    """Spawned, not forked: the tokenizer's and torch's threads don't survive a fork. One worker is this process."""
    progress.start("making samples", total=len(tasks), unit="repositories")
    paths = []
    with ExitStack() as stack:
        done: Iterator[Path] = map(_call, tasks)
        if min(workers, len(tasks)) > 1:
            context = get_context("spawn")
            done = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context)).map(_call, tasks)
        for number, path in enumerate(done, 1):
            paths.append(path)
            progress.advance(number, tasks[number - 1].share.allowed.name)
    progress.finish()
    return paths


def _train(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    rows = Shards.open(place.rows)
    begin = resolve_base_model(args.begin, "auto") if args.begin else None
    before = state.facts(place.run(args.run))
    dtype = settings.dtype if settings.dtype != "auto" else before.get("dtype", "auto")  # measured at the first start
    placement = choose_placement(begin or _tokenizer_files(rows), settings.device, dtype)
    recipe = _recipe(args, settings, rows, placement, before)
    origin = f"{begin.name} ({begin.digest[:12]})" if begin else f"{RANDOM_WEIGHTS}, size {args.size}"
    fingerprint = storage.fingerprint(rows.manifest.fingerprint, recipe.shaping(), begin.digest if begin else args.size)
    torch.set_num_threads(settings.num_threads or torch.get_num_threads())
    is_compiled = placement.device.type == "cuda" if args.compile is None else args.compile
    model = _model(begin, args.size, rows, recipe.seed)
    with deferred_signals() as should_stop:
        result = pretrain(
            model,
            rows,
            recipe,
            placement=placement,
            run=place.run(args.run),
            fingerprint=fingerprint,
            facts=_run_facts(model, rows, recipe, placement, origin, before) | {"card_of_from": _card(begin)},
            progress=progress,
            should_stop=should_stop,
            is_compiled=is_compiled,
        )
    print(f"{result.step:,} steps, {result.tokens:,} tokens, {result.elapsed_s:,.0f} s; next: homespun pretrain export")


def _recipe(
    args: argparse.Namespace, settings: Settings, rows: Shards, placement: Placement, before: Mapping[str, Any]
) -> Recipe:
    """Without a budget the one it was started with, or one pass."""
    kind = placement.device.type
    one_pass = sum(rows.num_tokens(phase.name) for phase in PHASES)
    tokens, minutes = args.tokens, args.minutes
    if not tokens and not minutes:
        budget = before.get("recipe", {})
        tokens, minutes = budget.get("tokens"), budget.get("minutes")
    if not one_pass:
        raise StorageError(f"{rows.path}: holds no rows to train on; extract more text and prepare again")
    return Recipe(
        tokens=tokens if tokens or minutes else one_pass,
        minutes=minutes,
        batch_tokens=args.batch_tokens or BATCH_TOKENS[kind],
        micro_tokens=args.micro_tokens or MICRO_TOKENS[kind],
        seed=settings.seed,
        muon_rate=args.muon_rate,
        adam_rate=args.adam_rate,
        weight_decay=args.weight_decay,
        warm_up=args.warm_up,
        decay=args.decay,
        second_phase=args.second_phase,
    )


def _model(begin: ModelFiles | None, size: str, rows: Shards, seed: int) -> Any:
    if begin is not None:
        if load_tokenizer(begin).digest != rows.manifest.sources["tokenizer"]:
            raise ConfigError(f"--from: {begin.name} has another tokenizer than the rows; prepare with --tokenizer")
        return load_model(begin, vocabulary=rows.info["vocabulary"])
    info = rows.info
    return new_model(SIZES[size], vocabulary=info["vocabulary"], end=info["end"], pad=info["pad"], seed=seed)


def _run_facts(
    model: Any, rows: Shards, recipe: Recipe, placement: Placement, origin: str, before: Mapping[str, Any]
) -> dict[str, Any]:
    threads = torch.get_num_threads()
    where = torch.cuda.get_device_name() if placement.device.type == "cuda" else f"{threads} threads"
    versions = {"homespun": __version__, **{name: version(name) for name in ("torch", "transformers")}}
    here = f"{placement}; {platform.machine()}, {where}; {', '.join(f'{n} {v}' for n, v in versions.items())}"
    return {
        "from": origin,
        "rows": rows.manifest.fingerprint,
        "config": config_of(model),
        "recipe": asdict(recipe),
        "dtype": str(placement.dtype).removeprefix("torch."),
        "ran_on": list(dict.fromkeys([*before.get("ran_on", ()), here])),
    }


def _card(begin: ModelFiles | None) -> str | None:
    """What is known of the weights it begins from: a model is made of all that they saw, too."""
    cards = [Path(begin.path) / name for name in (exporting.CARD, "README.md")] if begin else []
    return next((card.read_text(encoding="utf-8") for card in cards if card.is_file()), None)


def _tokenizer_files(rows: Shards) -> ModelFiles:
    """A new model has no other files yet."""
    return ModelFiles(name="rows", path=str(rows.path), family=None, digest=rows.manifest.fingerprint, config={})


def _export(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    rows, checkpoint = Shards.open(place.rows), state.load(place.run(args.run))
    if checkpoint is None:
        raise StorageError(f"{place.run(args.run)}: no run is there; run `homespun pretrain train` first")
    if checkpoint.facts["rows"] != rows.manifest.fingerprint:  # the card would list what another model is made of
        raise StorageError(f"{place.run(args.run)}: was trained on other rows than {rows.path}; prepare those again")
    out = args.to.expanduser().absolute() if args.to else place.model
    progress.start("exporting")
    facts = exporting.export(checkpoint, rows, out, name=args.name)
    exporting.update_card(out, evaluations(place, facts))
    progress.finish(f"{facts['weights_bytes'] / 1e6:.1f} MB, {facts['parameters'] / 1e6:.1f}M parameters")
    print(f"{out}; next: homespun pretrain evaluate, or homespun up REPO --base-model {out}")


_STEPS = {"extract": _extract, "prepare": _prepare, "train": _train, "export": _export, "evaluate": evaluate}
