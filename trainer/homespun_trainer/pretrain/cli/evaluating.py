"""The step that measures a model on held-out files, with the server's engine."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.errors import StorageError
from homespun_core.fim import line_ends
from homespun_core.types import ModelFiles, Progress
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_server.engine.torch_engine import TorchEngine
from homespun_trainer.cli.judging import Judging
from homespun_trainer.evaluate import Bench
from homespun_trainer.pretrain import export as exporting
from homespun_trainer.pretrain import measure
from homespun_trainer.pretrain.allowlist import read_allow_list
from homespun_trainer.pretrain.card import RANDOM_WEIGHTS, figures
from homespun_trainer.pretrain.cli.reading import Place, Repositories, repositories_of, shares_of
from homespun_trainer.pretrain.measure import Search
from homespun_trainer.pretrain.prepare import Share
from homespun_trainer.pretrain.samples import builders
from homespun_trainer.pretrain.shards import Shards


def evaluate(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    rows, repositories = Shards.open(place.rows), repositories_of(args, settings, place)
    model = resolve_base_model(args.model or str(place.model), "auto")
    places = measure.read_infilling(args.infilling) if args.infilling else []
    held_out = sorted(rows.held_out_files(), key=lambda f: storage.fingerprint(f.repo, f.document.path))
    if not held_out:
        raise StorageError(f"{rows.path}: no file was held out; prepare with a larger --held-out")
    tasks = measure.line_tasks(held_out, args.lines, settings.seed)
    shares = shares_of(read_allow_list(args.repositories), place, rows.info["held_out_share"])
    wanted = [share for share in shares if share.allowed.name in {repo for repo, _ in tasks}]
    weights = storage.file_digest(_weights(model))
    engine = TorchEngine(
        Path(model.path), dtype=settings.dtype, device=settings.device, num_threads=settings.num_threads
    )
    with closing(engine), _searches(wanted, repositories, model) as searches:
        bench = _bench(model, engine, settings)
        measured: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "model": model.name,
            "weights_sha256": weights,
            "rows": rows.manifest.fingerprint,
            "files": _files_in_words(Path(model.path), rows),
            "dtype": engine.dtype,
            "bits_per_byte": measure.bits_per_byte(
                held_out[: args.files], bench.builder, bench.score, engine.max_context, progress
            ),
            "lines": measure.complete_lines(tasks, bench, searches, progress) if tasks else None,
        }
        if places:
            measured["infilling"] = {**measure.infill(places, bench, progress), "source": args.infilling.name}
    if storage.file_digest(_weights(model)) != weights:
        raise StorageError(f"{model.path}: its weights were replaced while they were measured; run the same again")
    _keep(measured, place, Path(model.path))
    print("\n\n".join(figures([measured])))


@contextmanager
def _searches(shares: Sequence[Share], repositories: Repositories, model: ModelFiles) -> Iterator[dict[str, Search]]:
    """By repository, open for the time of the block: the very indexes that samples were made with."""
    with ExitStack() as stack:
        found = {}
        for share in shares:
            opened = repositories.search(share.allowed, share.commit, share.shown, model)
            found[share.allowed.name] = Search(name=share.allowed.short, retrieve=stack.enter_context(opened))
        yield found


def _bench(model: ModelFiles, engine: TorchEngine, settings: Settings) -> Bench:
    tokenizer = load_tokenizer(model)
    builder = builders(tokenizer, settings.max_prompt_tokens)[0]
    judging = Judging(engine, tokenizer)
    return Bench(
        builder=builder,
        repo="",
        retrieve=lambda _: lambda query: (),
        generate=judging.generate,
        score=judging.score,
        end_ids=line_ends(builder.format, tokenizer, len(tokenizer.spelled)),
    )


def _weights(model: ModelFiles) -> Path:
    return next(Path(model.path).glob("*.safetensors"))


def _files_in_words(model: Path, rows: Shards) -> str:
    """What is known of the files that it is measured on."""
    facts = exporting.read_facts(model)
    if facts is None or facts["rows_fingerprint"] != rows.manifest.fingerprint:
        return "files held out by another preparation than this model's, if it had one: it may have seen them"
    if facts["run"]["from"].startswith(RANDOM_WEIGHTS):
        return "files that no sample was made of"
    return "files that no sample of this training was made of (the weights it began from may have seen them)"


def _keep(measured: Mapping[str, Any], place: Place, model: Path) -> None:
    """Beside the other measurements, and in the card of a model that we exported."""
    name = storage.fingerprint(measured["weights_sha256"], measured["dtype"], measured["rows"])[:16]
    storage.write_atomic(place.evaluations / f"{name}.json", json.dumps(measured, indent=1) + "\n")
    if (facts := exporting.read_facts(model)) is not None:
        exporting.update_card(model, evaluations(place, facts))


def evaluations(place: Place, facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of an export's weights on what was held out from them, by number format."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.evaluations.glob("*.json"))]
    wanted = (facts["weights_sha256"], facts["rows_fingerprint"])
    return sorted((e for e in found if (e["weights_sha256"], e.get("rows")) == wanted), key=lambda e: str(e["dtype"]))
