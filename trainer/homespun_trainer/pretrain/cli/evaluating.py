"""The step that measures a model on held-out files, with the server's engine."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from homespun_core import storage
from homespun_core.config import Settings
from homespun_core.types import Progress
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.tokenizer import load_tokenizer
from homespun_trainer.cli import opened_engine
from homespun_trainer.evaluate import Bench, newline_ids
from homespun_trainer.pretrain import export as exporting
from homespun_trainer.pretrain import measure
from homespun_trainer.pretrain.allowlist import read_allow_list
from homespun_trainer.pretrain.cli.reading import Place, repositories_of, shares_of
from homespun_trainer.pretrain.measure import Search
from homespun_trainer.pretrain.samples import builders
from homespun_trainer.pretrain.shards import Shards


def evaluate(args: argparse.Namespace, settings: Settings, place: Place, progress: Progress) -> None:
    rows, repositories = Shards.open(place.rows), repositories_of(args, settings, place)
    model = resolve_base_model(args.model or str(place.model), "auto")
    tokenizer = load_tokenizer(model)
    builder = builders(tokenizer, settings.max_prompt_tokens)[0]
    held_out = sorted(rows.held_out_files(), key=lambda f: storage.fingerprint(f.repo, f.document.path))
    places = measure.read_infilling(args.infilling) if args.infilling else []
    listed = read_allow_list(args.repositories)
    shares = {share.allowed.name: share for share in shares_of(listed, place, rows.info["held_out_share"])}
    with opened_engine(model, settings) as engine, ExitStack() as stack:
        ends = frozenset(builder.format.end_ids) | newline_ids(tokenizer, len(tokenizer.spelled))
        bench = Bench(
            builder=builder,
            repo="",
            retrieve=lambda _: (),
            generate=engine.generate,
            score=engine.score,
            end_ids=ends,
        )
        tasks = measure.line_tasks(held_out, args.lines, settings.seed)
        searches = {
            name: Search(
                name=shares[name].allowed.short,
                retrieve=stack.enter_context(
                    repositories.search(shares[name].allowed, shares[name].commit, shares[name].shown, model)
                ),
            )
            for name in sorted({repo for repo, _ in tasks} & shares.keys())
        }
        measured: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "model": model.name,
            "weights_sha256": storage.file_digest(next(Path(model.path).glob("*.safetensors"))),
            "dtype": settings.dtype,
            "bits_per_byte": measure.bits_per_byte(held_out[: args.files], builder, engine.score, progress),
            "lines": measure.complete_lines(tasks, bench, searches, progress) if tasks else None,
        }
        if places:
            measured["infilling"] = {**measure.infill(places, bench, progress), "source": args.infilling.name}
    name = storage.fingerprint(measured["weights_sha256"], settings.dtype, rows.manifest.fingerprint)[:16]
    storage.write_atomic(place.evaluations / f"{name}.json", json.dumps(measured, indent=1) + "\n")
    if (Path(model.path) / exporting.FACTS).is_file():
        exporting.update_card(Path(model.path), evaluations(place, measured["weights_sha256"]))
    print(json.dumps(measured, indent=1))


def evaluations(place: Place, weights: str) -> list[Mapping[str, Any]]:
    """Of these weights, by number format."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(place.evaluations.glob("*.json"))]
    return sorted((e for e in found if e["weights_sha256"] == weights), key=lambda e: str(e["dtype"]))
