"""Training throughput: our own loop beside `transformers.Trainer` with peft, on the same examples of one repository.

    python benchmarks/training.py REPO [--steps 12] [--rounds 3] [--data-dir DIR]

Both train the same adapter of the same model on the same batches, in turns, so that what else the machine does meets
both; the first step of each turn warms up and isn't counted. Tokens are those of the examples, never padding. Trainer
runs as its documentation has it (dynamic padding, one forward a batch, peft's defaults), in the number format that we
choose here. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import get_peft_model

from homespun_core.config import INDEX, TRAIN
from homespun_core.loading import add_flags, settings_from_args
from homespun_core.logs import configure_logging
from homespun_core.paths import DataDir
from homespun_core.types import ModelFiles
from homespun_indexer.model_files import resolve_base_model
from homespun_indexer.progress import progress_for_terminal
from homespun_indexer.repository import open_repository
from homespun_trainer.cli.preparing import prepared
from homespun_trainer.examples import Example, Mix
from homespun_trainer.lora import load_base
from homespun_trainer.methods import peft_config
from homespun_trainer.pipeline import examples_of, recipe_of
from homespun_trainer.placement import Placement, choose_placement
from homespun_trainer.train import Recipe, TrainingInterruptedError, train_adapter

_SAME = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    tokens_per_s: float
    targets_per_s: float


@dataclass(frozen=True, slots=True)
class Fixed:
    """As an ExampleStream, but made already: neither side waits for retrieval."""

    batches: Sequence[Sequence[Example]]

    def batch(self, step: int, size: int) -> list[Example]:
        return list(self.batches[step % len(self.batches)])


class StepTimes:
    """A Progress that notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def start(self, stage: str, *, total: int | None = None, unit: str = "") -> None: ...

    def finish(self, note: str = "") -> None: ...

    def advance(self, done: int, note: str = "") -> None:
        self.ends.append(time.perf_counter())


class CountingClock:
    """One second a reading: with it a time budget is a number of steps."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1.0
        return self._now


def ours(files: ModelFiles, fixed: Fixed, recipe: Recipe, placement: Placement) -> Speed:
    times = StepTimes()
    with tempfile.TemporaryDirectory() as run, suppress(TrainingInterruptedError):
        train_adapter(
            files,
            fixed,
            [],
            recipe,
            placement=placement,
            run=Path(run),
            fingerprint="benchmark",
            progress=times,
            should_stop=lambda: len(times.ends) >= len(fixed.batches),
            clock=CountingClock(),
        )
    return _speed(fixed, times.ends)


def theirs(files: ModelFiles, fixed: Fixed, recipe: Recipe, placement: Placement) -> Speed:
    ends: list[float] = []

    class Times(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    base = load_base(files, placement)
    model = get_peft_model(base, peft_config(recipe.method, recipe.rank, base))
    with tempfile.TemporaryDirectory() as out:
        options = transformers.TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=recipe.batch_examples,
            max_steps=len(fixed.batches),
            learning_rate=_SAME,
            use_cpu=placement.device.type == "cpu",
            bf16=placement.dtype == torch.bfloat16,
            train_sampling_strategy="sequential",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        rows = [_row(example) for batch in fixed.batches for example in batch]
        trainer = transformers.Trainer(
            model=model, args=options, train_dataset=rows, data_collator=_collate, callbacks=[Times()]
        )
        trainer.train()
    return _speed(fixed, ends)


def main() -> None:
    args = _arguments()
    settings = settings_from_args(args).settings
    configure_logging("error")
    warnings.simplefilter("ignore")
    data, progress = DataDir(settings.data_root), progress_for_terminal()
    files = resolve_base_model(settings.base_model, settings.fim_family)
    repo = open_repository(
        args.repository,
        data,
        branch=settings.branch,
        timeout_s=settings.git_timeout_s,
        max_clone_mb=settings.max_clone_mb,
        progress=progress,
    )
    placement = choose_placement(files, settings.device, settings.dtype)
    with prepared([repo], files, settings, data, progress) as job:
        recipe = recipe_of(job, is_gpu=placement.device.type == "cuda")
        stream, _ = examples_of(job, recipe, Mix())
        fixed = Fixed([stream.batch(step, recipe.batch_examples) for step in range(args.steps + 1)])
    sides: dict[str, Callable[..., Speed]] = {"ours": ours, "Trainer + peft": theirs}
    speeds: dict[str, list[Speed]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            speeds[name].append(speed := side(files, fixed, recipe, placement))
            print(f"  {name:<16}{speed.tokens_per_s:>8,.0f} tokens/s{speed.targets_per_s:>7,.0f} targets/s", flush=True)
    pairs = zip(speeds["ours"], speeds["Trainer + peft"], strict=True)
    ratios = [a.tokens_per_s / b.tokens_per_s for a, b in pairs]
    print(f"{placement}, {torch.get_num_threads()} threads: {statistics.median(ratios):.2f} times as fast")
    print(json.dumps({"ratios": ratios, **{name: [asdict(s) for s in all_] for name, all_ in speeds.items()}}))


def _speed(fixed: Fixed, ends: Sequence[float]) -> Speed:
    """Without the first step, whose end starts the clock."""
    seconds, counted = ends[len(fixed.batches) - 1] - ends[0], [e for batch in fixed.batches[1:] for e in batch]
    return Speed(
        tokens_per_s=sum(len(e.ids) for e in counted) / seconds,
        targets_per_s=sum(w > 0 for e in counted for w in e.weights[1:]) / seconds,
    )


def _row(example: Example) -> dict[str, list[int]]:
    labels = [token if weight > 0 else -100 for token, weight in zip(example.ids, example.weights, strict=True)]
    return {"input_ids": list(example.ids), "labels": labels}


def _collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    length = max(len(row["input_ids"]) for row in rows)

    def padded(name: str, filler: int) -> torch.Tensor:
        return torch.tensor([row[name] + [filler] * (length - len(row[name])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (length - len(row["input_ids"])) for row in rows])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", metavar="REPO", help="path or URL of a git repository")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="counted steps a turn (default: 12)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each side (default: 3)")
    add_flags(parser, (TRAIN, INDEX))
    return parser.parse_args()


if __name__ == "__main__":
    main()
