"""Several processes that torchrun or `accelerate launch` started, on one machine or more, for one training run.

    torchrun --nproc-per-node 4 -m homespun_core.cli train shop

The first (RANK 0) is the run; the others never read a repository nor hold state. Over the process group that the
launcher describes in the environment they are told what to build and, each step, their share of the batch, as JSON and
tensors; nothing that they receive is unpickled. One that is lost ends the run, which goes on from its checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from homespun_core.errors import ConfigError
from homespun_core.types import ModelFiles
from homespun_trainer.examples import Example
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import Masters
from homespun_trainer.parallel import Helpers, Workers, exchanged
from homespun_trainer.placement import Placement, choose_device

logger = logging.getLogger(__name__)

_LONG = timedelta(days=7)
"""Helpers wait while the first one reads repositories, judges and publishes."""


def num_launched() -> int:
    """As the launcher says; 1 where there was none."""
    try:
        return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1
    except (KeyError, ValueError):
        return 1


def is_helper() -> bool:
    return num_launched() > 1 and os.environ.get("RANK") != "0"


def workers_for(plan: Plan, num_processes: int) -> Helpers:
    """Raises ConfigError where processes were launched and more are asked for."""
    if num_launched() == 1:
        return Workers(plan, num_processes)
    if num_processes > 1:
        raise ConfigError(f"processes: {num_processes}, but torchrun started {num_launched()} already; leave it at 1")
    return _Launched(plan)


def dismiss(device: str) -> None:
    """The helpers end, whether or not there was anything to train. To be called where all went well: otherwise they may
    be in the middle of a step, and the launcher ends all when one has failed. `device` is the setting."""
    if num_launched() > 1:
        _join(choose_device(device))
        _tell({"kind": "end"})
        dist.destroy_process_group()


def help_out(device: str) -> int:
    """A helper's life; its exit status. `device` is the setting, the first one's too: by it they choose how to meet."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach all; the first one saves, and decides
        signal.signal(number, signal.SIG_IGN)
    own = _own_device(choose_device(device).type)
    learner: Learner | None = None
    try:
        _join(own)
        while (said := _heard())["kind"] != "end":
            if said["kind"] == "plan":
                learner = Learner(_plan(said, own))
            else:
                assert learner is not None, "told a batch before a plan"
                _help(learner, said)
    except RuntimeError as error:  # PyTorch's, when the first one has gone
        logger.info("the run has ended (%s)", type(error).__name__)
        return 1
    dist.destroy_process_group()
    return 0


class _Launched:
    def __init__(self, plan: Plan) -> None:
        _join(plan.placement.device)
        self._device, self._size = plan.placement.device, dist.get_world_size()
        exchanged(partial(_tell, _described(plan)))

    def share_out(self, batch: Sequence[Example], weight: float, masters: Masters) -> Sequence[Example]:
        shares = [[_row(e) for e in batch[rank :: self._size]] for rank in range(1, self._size)]
        exchanged(partial(_tell, {"kind": "batch", "shares": shares, "weight": weight}))
        exchanged(partial(dist.broadcast, masters.flat(), 0))
        return batch[:: self._size]

    def sum_up(self, masters: Masters, loss: float) -> float:
        summed = torch.cat([masters.flat_gradient(), torch.tensor([loss], device=self._device)])
        exchanged(partial(dist.reduce, summed, 0))
        masters.set_gradient(summed[:-1])
        return float(summed[-1])

    def close(self) -> None:
        """They wait for the next plan, or for the end."""


def _help(learner: Learner, said: Mapping[str, Any]) -> None:
    masters, rank = learner.masters, dist.get_rank()
    weights = masters.flat()
    dist.broadcast(weights, src=0)
    masters.set_flat(weights)
    loss = learner.accumulate([_example(row) for row in said["shares"][rank - 1]], said["weight"])
    dist.reduce(torch.cat([masters.flat_gradient(), weights.new_tensor([loss])]), dst=0)
    masters.forget_gradients()


def _join(device: torch.device) -> None:
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_LONG)


def _own_device(kind: str) -> torch.device:
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device(kind)


def _tell(message: Mapping[str, Any]) -> None:
    raw = json.dumps(message).encode()
    device = _group_device()
    dist.broadcast(torch.tensor([len(raw)], device=device), src=0)
    dist.broadcast(torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(device), src=0)


def _heard() -> dict[str, Any]:
    size = torch.zeros(1, dtype=torch.long, device=_group_device())
    dist.broadcast(size, src=0)
    raw = torch.zeros(int(size), dtype=torch.uint8, device=_group_device())
    dist.broadcast(raw, src=0)
    message: dict[str, Any] = json.loads(bytes(raw.cpu().tolist()))
    return message


def _group_device() -> torch.device:
    return _own_device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "kind": "plan",
        "files": asdict(plan.files),
        "dtype": str(plan.placement.dtype).removeprefix("torch."),
        "method": plan.method,
        "rank": plan.rank,
        "dropout": plan.dropout,
        "base_format": plan.base_format,
        "max_surprisal": plan.max_surprisal,
        "seed": plan.seed,
        "parent": str(plan.parent) if plan.parent else None,
    }


def _plan(said: Mapping[str, Any], device: torch.device) -> Plan:
    return Plan(
        files=ModelFiles(**said["files"]),
        placement=Placement(device, getattr(torch, said["dtype"])),
        method=said["method"],
        rank=said["rank"],
        dropout=said["dropout"],
        base_format=said["base_format"],
        max_surprisal=said["max_surprisal"],
        seed=said["seed"],
        parent=Path(said["parent"]) if said["parent"] else None,
    )


def _row(example: Example) -> dict[str, Any]:
    return {"ids": example.ids, "weights": example.weights}


def _example(row: Mapping[str, Any]) -> Example:
    return Example(ids=tuple(row["ids"]), weights=tuple(row["weights"]), prompt_tokens=0, kind="")
