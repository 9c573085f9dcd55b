"""`homespun plan`: how many machines a number of developers needs, with the arithmetic."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from homespun_core.errors import ConfigError
from homespun_core.repositories import nearest
from homespun_server.plan.capacity import SHARES, Assumptions, Gpu, Model, Plan, plan

_EPILOG = """\
examples:
  homespun plan --developers 1000 --model qwen2.5-coder-7b --gpu l40s
  homespun plan --developers 100,1000,10000 --model qwen2.5-coder-1.5b --gpu l40s
  homespun plan --developers 1000 --active 0.08 --bytes-per-weight 1      with figures of your own
"""
_MUCH_GB = 200
"""A database that is still backed up and repaired in minutes."""
_DEVELOPERS = re.compile(r"\d+(,\d+)*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    catalogue = _catalogue()
    parser.add_argument("--developers", required=True, metavar="N[,N]", help="how many there are")
    parser.add_argument("--model", default="qwen2_5-coder-7b", help=f"one of {', '.join(catalogue['model'])}")
    parser.add_argument("--gpu", default="l40s", help=f"one of {', '.join(catalogue['gpu'])}")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    group = parser.add_argument_group("assumptions", "each can be given otherwise; measure yours where you can")
    for field in dataclasses.fields(Assumptions):
        kind = int if field.type == "int" else float
        said = f"{field.metadata['said']} (default: {field.default:g}, {_origin(field)})".replace("%", "%%")
        group.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="X", help=said
        )


def run(args: argparse.Namespace) -> int:
    catalogue = _catalogue()
    model = Model(**_entry(catalogue, "model", args.model.replace(".", "_")))
    gpu = Gpu(**_entry(catalogue, "gpu", args.gpu))
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Assumptions)}
    developers = _numbers(args.developers)
    _refuse_nonsense(given)
    assumed = Assumptions(**given)
    made = {number: plan(number, model, gpu, assumed) for number in developers}
    if args.json:
        plans = [{"developers": number, **dataclasses.asdict(each)} for number, each in made.items()]
        print(json.dumps({"assumed": given, "plans": plans}, indent=1))
    else:
        print("\n\n".join(render(n, args.model, args.gpu, each, assumed) for n, each in made.items()))
        print("\n" + "\n".join(_basis(assumed)))
    return 0


def render(developers: int, model: str, gpu: str, made: Plan, assumed: Assumptions) -> str:
    gigabytes = f"{made.weights_gb:.1f} weights + {made.kept_gb:.1f} prompts + {made.adapters_gb:.1f} adapters"
    fits = "fits" if made.fits else "DOES NOT FIT: a larger GPU, a smaller model, or --bytes-per-weight 1"
    return "\n".join(
        [
            f"{developers:,} developers, {model} on {gpu}",
            "",
            f"  {made.requests_per_s:8,.0f}  requests a second at the busiest time"
            f" = {developers:,} x {assumed.active:g} typing x {assumed.requests_per_s:g}",
            f"  {made.per_gpu_per_s:8,.1f}  of them one GPU answers, {assumed.most_busy:.0%} busy,"
            f" {made.together} together",
            f"  {made.completion_ms:8,.0f}  ms a completion takes then, waiting not counted{_quick(made, assumed)}",
            f"  {made.gpus:8,}  GPUs, and one more so that one may fail",
            f"            GB in each GPU: {gigabytes}: {fits}",
            f"  {made.gateway_cores:8,}  cores for gateways ({assumed.gateway_ms:g} ms a request)",
            f"  {made.index_gb:8,.1f}  GB of index on the shared volume; in each gateway's machine what is used of it",
            f"  {made.watcher_busy:8.0%}  of the busiest hour one watcher indexes pushes{_watchers(made)}",
            f"  {made.database_gb:8,.0f}  GB of outcomes in PostgreSQL after {assumed.feedback_days:g} days"
            f"{_rows(made)}",
        ]
    )


def _basis(assumed: Assumptions) -> Iterator[str]:
    """Every assumption with where it comes from."""
    yield "Arithmetic, not a measurement of such a cluster. What it assumes (each is a flag):"
    for field in dataclasses.fields(Assumptions):
        value = getattr(assumed, field.name)
        origin = _origin(field) if value == field.default else "given"
        yield f"  {field.name.replace('_', '-'):20} {value:>8,g}  {field.metadata['said']} [{origin}]"


def _origin(field: dataclasses.Field[Any]) -> str:
    return f"{field.metadata['origin']}: {field.metadata['where']}"


def _watchers(made: Plan) -> str:
    remedy = "without a watcher (watcher.enabled=false in the chart) hooks make jobs for workers"
    return f": TOO MUCH FOR ONE: {remedy}" if made.watcher_busy > 1 else ""


def _rows(made: Plan) -> str:
    return ": A LOT: set feedback_days lower" if made.database_gb > _MUCH_GB else ""


def _quick(made: Plan, assumed: Assumptions) -> str:
    remedy = "a faster GPU, a smaller model, --bytes-per-weight 1, or drafts"
    return "" if made.is_quick else f": MORE THAN {assumed.longest_ms:.0f}: {remedy}"


def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads(files("homespun_server.plan").joinpath("catalogue.toml").read_text(encoding="utf-8"))


def _entry(catalogue: dict[str, dict[str, dict[str, Any]]], kind: str, name: str) -> dict[str, Any]:
    if name not in catalogue[kind]:
        raise ConfigError(f"--{kind} {name}: unknown{nearest(name, catalogue[kind], f'{kind}s')}")
    return catalogue[kind][name]


def _numbers(words: str) -> list[int]:
    if not _DEVELOPERS.fullmatch(words) or not all(map(int, words.split(","))):
        raise ConfigError(f"--developers {words}: must be 1 or more, or several numbers separated by commas")
    return [int(word) for word in words.split(",")]


def _refuse_nonsense(given: dict[str, float]) -> None:
    for name, value in given.items():
        highest = 1 if name in SHARES else None
        if value <= 0 or (highest is not None and value > highest):
            above = " up to 1" if highest else ""
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: must be above 0{above}")
