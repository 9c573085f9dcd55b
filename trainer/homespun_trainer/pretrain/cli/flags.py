"""The flags of `homespun pretrain`, step by step."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from homespun_core.config import PRETRAIN
from homespun_core.loading import add_flags
from homespun_trainer.pretrain.model import SIZES
from homespun_trainer.pretrain.training import BATCH_TOKENS, MICRO_TOKENS, Recipe

_DEFAULT = Recipe(tokens=None, minutes=None, batch_tokens=0, micro_tokens=0, seed=0)

STEPS = {
    "extract": "read the allow-listed repositories' source files at the commits of the list",
    "prepare": "make samples with the server's own prompts, and pack them into rows of tokens",
    "train": "train a model on the rows, or go on where a run was stopped",
    "export": "write the trained model as a Hugging Face directory, with a card that says what it is",
    "evaluate": "measure a model on the files that were held out",
}
EPILOG = """\
from nothing to a model of your own, in one folder:
  homespun pretrain extract --dir ~/pretrain --mirrors ~/mirrors
  homespun pretrain prepare --dir ~/pretrain --mirrors ~/mirrors
  homespun pretrain train --dir ~/pretrain --size 40m --minutes 25
  homespun pretrain export --dir ~/pretrain
  homespun pretrain evaluate --dir ~/pretrain --mirrors ~/mirrors
  homespun up ~/code/my-project --base-model ~/pretrain/model

Without --mirrors, repositories are cloned from github.com into the folder. Each step keeps what is there
already; one that was stopped goes on when it is started again.
"""


def add_step_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    steps = parser.add_subparsers(dest="step", metavar="STEP", title="steps", required=True)
    for name, help_ in STEPS.items():
        step = steps.add_parser(
            name, help=help_, description=f"{help_.capitalize()}.", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        step.add_argument("--dir", type=Path, metavar="DIR", help="where it all is (default: pretrain in data_dir)")
        _FLAGS[name](step)
        add_flags(step, (PRETRAIN,))


def _extract(step: argparse.ArgumentParser) -> None:
    _repositories(step)
    step.add_argument(
        "--only", nargs="+", default=[], metavar="OWNER/NAME", help="take only these; they must be on the list"
    )
    step.add_argument("--at-head", action="store_true", help="take the heads, and write down which commits these are")
    step.add_argument(
        "--scale",
        type=_above_zero,
        default=1.0,
        metavar="X",
        help="multiply the caps on one repository's share (default: 1)",
    )


def _prepare(step: argparse.ArgumentParser) -> None:
    _repositories(step)
    step.add_argument(
        "--tokenizer", default="builtin", metavar="MODEL", help="model directory with the tokenizer (default: builtin)"
    )
    step.add_argument(
        "--passes", type=_above_zero, default=1.0, metavar="X", help="draw so many times more samples (default: 1)"
    )
    step.add_argument(
        "--held-out", type=_share, default=0.01, metavar="X", help="share of the files to measure on (default: 0.01)"
    )
    step.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: 0, one per core)")


def _train(step: argparse.ArgumentParser) -> None:
    _run(step)
    begin = step.add_mutually_exclusive_group()
    begin.add_argument("--size", choices=sorted(SIZES), default="19m", help="of a new model (default: 19m)")
    begin.add_argument(
        "--from", dest="begin", metavar="MODEL", help="go on from these weights: builtin, or a Llama directory"
    )
    step.add_argument("--tokens", type=_count, metavar="N", help="budget (default: one pass, if --minutes isn't given)")
    step.add_argument(
        "--minutes", type=_above_zero, metavar="X", help="budget of time; the schedule then follows the clock"
    )
    step.add_argument(
        "--batch-tokens",
        type=_count,
        metavar="N",
        help=f"tokens of a step (default: {BATCH_TOKENS['cpu']:,} on a CPU, {BATCH_TOKENS['cuda']:,} on a GPU)",
    )
    step.add_argument(
        "--micro-tokens",
        type=_count,
        metavar="N",
        help="tokens of a forward pass, a matter of memory"
        f" (default: {MICRO_TOKENS['cpu']:,} on a CPU, {MICRO_TOKENS['cuda']:,} on a GPU)",
    )
    for name, kind, help_ in (
        ("muon_rate", _above_zero, "learning rate of the matrices inside the layers"),
        ("adam_rate", _above_zero, "learning rate of embeddings and norms"),
        ("weight_decay", _share, "of the matrices, times the rate"),
        ("decay", _share, "share of the budget, at the end, in which the rates fall"),
        ("second_phase", _share, "share of the budget after which rows are long and mostly with snippets"),
        ("warm_up", _count, "steps in which the rates rise"),
    ):
        _number(step, name, kind, help_)
    step.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the layers, which takes a C++ compiler (default: on a GPU)",
    )


def _export(step: argparse.ArgumentParser) -> None:
    _run(step)
    step.add_argument("--to", type=Path, metavar="DIR", help="directory to write (default: model in --dir)")
    step.add_argument("--name", default="Homespun base model", help="title of the card")


def _evaluate(step: argparse.ArgumentParser) -> None:
    _repositories(step)
    step.add_argument("--model", metavar="MODEL", help="directory or builtin (default: model in --dir)")
    step.add_argument("--files", type=_count, default=300, metavar="N", help="files for bits per byte (default: 300)")
    step.add_argument("--lines", type=_count, default=400, metavar="N", help="lines to complete (default: 400)")
    step.add_argument(
        "--infilling", type=Path, metavar="FILE", help="also HumanEval-Infilling's .jsonl or .jsonl.gz, if you have it"
    )


def _repositories(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--repositories", type=Path, metavar="FILE", help="another allow-list (default: the one that is built in)"
    )
    step.add_argument(
        "--mirrors",
        type=Path,
        metavar="DIR",
        help="folder of git repositories OWNER+NAME, OWNER/NAME or either with .git (default: clone from github.com)",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _above_zero(text: str) -> float:
    if not 0 < (value := _float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := _float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _run(step: argparse.ArgumentParser) -> None:
    step.add_argument("--run", default="run", metavar="NAME", help="name of the run in --dir (default: run)")


def _number(step: argparse.ArgumentParser, name: str, kind: Callable[[str], float], help_: str) -> None:
    default = getattr(_DEFAULT, name)
    flag, metavar = f"--{name.replace('_', '-')}", "N" if kind is _count else "X"
    step.add_argument(flag, type=kind, default=default, metavar=metavar, help=f"{help_} (default: {default})")


_FLAGS = {
    "extract": _extract,
    "prepare": _prepare,
    "train": _train,
    "export": _export,
    "evaluate": _evaluate,
}
