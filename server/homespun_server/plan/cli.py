"""`homespun plan`: how many machines a number of developers needs, with the arithmetic."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tomllib
from importlib.resources import files
from typing import Any

from homespun_core.errors import ConfigError
from homespun_core.repositories import nearest
from homespun_server.plan.capacity import Assumptions, Gpu, Model, Plan, plan

_EXPLAINED = {
    "active": "share of the developers who type at the busiest time",
    "requests_per_s": "requests a second of one who types",
    "prompt_tokens": "tokens of a prompt",
    "new_share": "share of them that the request before hadn't",
    "completion_tokens": "tokens of a completion",
    "tokens_per_step": "tokens made in a step; more with drafts",
    "longest_ms": "a completion is to take no longer",
    "bytes_per_weight": "2 is bfloat16, 1 is fp8 or int8",
    "most_busy": "share of the time a machine may be busy",
    "arithmetic_reached": "share of the data sheet's arithmetic that is reached",
    "bandwidth_reached": "share of its memory bandwidth",
    "gateway_ms": "processor time of a request in a gateway",
    "adapters": "adapters loaded at a time",
    "adapter_rank": "their rank",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    catalogue = _catalogue()
    parser.add_argument("--developers", type=int, required=True, metavar="N", help="how many there are")
    parser.add_argument("--model", default="qwen2_5-coder-7b", help=f"one of {', '.join(catalogue['model'])}")
    parser.add_argument("--gpu", default="l40s", help=f"one of {', '.join(catalogue['gpu'])}")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    group = parser.add_argument_group("assumptions", "each can be given otherwise; measure yours where you can")
    for field in dataclasses.fields(Assumptions):
        kind = int if field.type == "int" else float
        said = f"{_EXPLAINED[field.name]} (default: {field.default})"
        group.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, metavar="X", help=said
        )


def run(args: argparse.Namespace) -> int:
    catalogue = _catalogue()
    model = Model(**_entry(catalogue, "model", args.model.replace(".", "_")))
    gpu = Gpu(**_entry(catalogue, "gpu", args.gpu))
    given = {field.name: getattr(args, field.name) for field in dataclasses.fields(Assumptions)}
    _refuse_nonsense(given, args.developers)
    assumed = Assumptions(**given)
    made = plan(args.developers, model, gpu, assumed)
    if args.json:
        print(json.dumps({"assumed": given, "plan": dataclasses.asdict(made)}, indent=1))
    else:
        print(render(args.developers, args.model, args.gpu, made, assumed))
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
            f"  {made.gateway_cores:8,}  cores for gateways ({assumed.gateway_ms:g} ms a request)",
            f"            GB in each GPU: {gigabytes}: {fits}",
            "",
            "This is arithmetic on data sheets and assumptions (`--help` lists them), not a measurement.",
        ]
    )


def _quick(made: Plan, assumed: Assumptions) -> str:
    remedy = "a faster GPU, a smaller model, --bytes-per-weight 1, or drafts"
    return "" if made.is_quick else f": MORE THAN {assumed.longest_ms:.0f}: {remedy}"


def _catalogue() -> dict[str, dict[str, dict[str, Any]]]:
    return tomllib.loads(files("homespun_server.plan").joinpath("catalogue.toml").read_text(encoding="utf-8"))


def _entry(catalogue: dict[str, dict[str, dict[str, Any]]], kind: str, name: str) -> dict[str, Any]:
    if name not in catalogue[kind]:
        raise ConfigError(f"--{kind} {name}: unknown{nearest(name, catalogue[kind], f'{kind}s')}")
    return catalogue[kind][name]


def _refuse_nonsense(given: dict[str, float], developers: int) -> None:
    if developers < 1:
        raise ConfigError(f"--developers {developers}: must be 1 or more")
    for name, value in given.items():
        highest = 1 if name in ("active", "new_share", "most_busy", "arithmetic_reached", "bandwidth_reached") else None
        if value <= 0 or (highest is not None and value > highest):
            above = " up to 1" if highest else ""
            raise ConfigError(f"--{name.replace('_', '-')} {value:g}: must be above 0{above}")
