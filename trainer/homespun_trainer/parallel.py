"""Several processes for one training run: each computes the gradients of its share of every batch.

The first process is the run: it makes the examples, steps the optimiser, keeps the time and the checkpoints. The others
hold no state. Each step they get their share through a pipe and the adapter's weights by broadcast, and their gradients
are summed in the first; so a run goes on with another number of processes than it began with. gloo on CPUs, NCCL on
GPUs, one GPU a process. On one machine.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import multiprocessing

from homespun_core.errors import HomespunError, ModelError
from homespun_trainer.examples import Example
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import Masters


class WorkerLostError(HomespunError):
    """A process of the run has gone; the checkpoint is what it was."""


class Helpers(Protocol):
    """The other processes of a run, seen from the first."""

    def share_out(self, batch: Sequence[Example], weight: float, masters: Masters) -> Sequence[Example]: ...

    def sum_up(self, masters: Masters, loss: float) -> float: ...

    def close(self) -> None: ...


class Workers:
    """Processes that the first one starts, on its machine, and shares its threads with. `close` ends them."""

    def __init__(self, plan: Plan, num_processes: int) -> None:
        """Raises ModelError when there are fewer GPUs than processes."""
        self._num, self._device = num_processes, plan.placement.device
        self._pipes: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        if num_processes == 1:
            return
        if self._device.type == "cuda" and torch.cuda.device_count() < num_processes:
            raise ModelError(
                f"processes: {num_processes}, but PyTorch sees {torch.cuda.device_count()} GPUs; ask for less"
            )
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(max(1, self._threads_before // num_processes))
        self._store = tempfile.TemporaryDirectory(prefix="homespun-train-")  # a file of our own, and no open port
        context = multiprocessing.get_context("spawn")
        for rank in range(1, num_processes):
            mine, theirs = context.Pipe()
            arguments = (_on(plan, rank), rank, num_processes, self._store.name, theirs, torch.get_num_threads())
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(mine)
            self._processes.append(process)
        try:
            # Before we join: joining waits half an hour for one that has gone, and no signal ends that.
            exchanged(lambda: [pipe.recv() for pipe in self._pipes])
            _join(self._device, self._store.name, 0, num_processes)
        except BaseException:
            self.close()
            raise

    def share_out(self, batch: Sequence[Example], weight: float, masters: Masters) -> Sequence[Example]:
        """Let the others begin with their shares of `batch`; what remains is the first process's own."""
        for rank, pipe in enumerate(self._pipes, 1):
            exchanged(partial(pipe.send, (batch[rank :: self._num], weight)))
        if self._pipes:
            exchanged(partial(dist.broadcast, masters.flat(), 0))
        return batch[:: self._num]

    def sum_up(self, masters: Masters, loss: float) -> float:
        """Add the others' gradients to the masters'; the loss of the whole batch."""
        if not self._pipes:
            return loss
        summed = torch.cat([masters.flat_gradient(), torch.tensor([loss], device=self._device)])
        exchanged(partial(dist.reduce, summed, 0))
        masters.set_gradient(summed[:-1])
        return float(summed[-1])

    def close(self) -> None:
        """At any moment: they have nothing to lose."""
        for process in self._processes:
            process.kill()  # they ignore what is gentler
            process.join()
        if dist.is_initialized():
            dist.destroy_process_group()
        if self._pipes:
            self._store.cleanup()
            torch.set_num_threads(self._threads_before)


def _work(plan: Plan, rank: int, num_processes: int, store: str, pipe: Connection, num_threads: int) -> None:
    """A worker's life: it ends with the first process, however that ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach all; the first process saves, and decides
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(num_threads)
    learner = Learner(plan)
    masters = learner.masters
    pipe.send("ready")
    _join(plan.placement.device, store, rank, num_processes)
    with suppress(EOFError, OSError, RuntimeError):
        while True:
            batch, weight = pipe.recv()
            weights = masters.flat()
            dist.broadcast(weights, src=0)
            masters.set_flat(weights)
            loss = learner.accumulate(batch, weight)
            dist.reduce(torch.cat([masters.flat_gradient(), weights.new_tensor([loss])]), dst=0)
            masters.forget_gradients()


def exchanged(how: Callable[[], object]) -> None:
    """Pipes fail with EOFError or OSError, PyTorch with RuntimeError, when the other side has gone."""
    try:
        how()
    except (EOFError, OSError, RuntimeError) as error:
        raise WorkerLostError("processes: one has gone; the same command goes on from the checkpoint") from error


def _join(device: torch.device, store: str, rank: int, num_processes: int) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{Path(store) / 'store'}",
        rank=rank,
        world_size=num_processes,
    )


def _on(plan: Plan, rank: int) -> Plan:
    """The plan with a GPU of the process's own."""
    if plan.placement.device.type != "cuda":
        return plan
    return replace(plan, placement=replace(plan.placement, device=torch.device("cuda", rank)))
