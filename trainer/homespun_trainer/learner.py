"""The model, its new adapter, and the gradients of examples: what each process of a training run has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from homespun_core.errors import explain_want_of_memory
from homespun_core.types import ModelFiles
from homespun_trainer.batches import MicroBatch, longest_row, micro_batches, target_weight
from homespun_trainer.examples import Example
from homespun_trainer.lora import Masters, attach, load_base, logits_at
from homespun_trainer.methods import peft_config
from homespun_trainer.placement import Placement
from homespun_trainer.quantising import FULL
from homespun_trainer.sizing import measure
from homespun_trainer.stacking import merge_into, read_plain_lora
from homespun_trainer.surprise import learnable

logger = logging.getLogger(__name__)

_MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""Padding included: memory and speed, not the result. On a CPU larger ones are no faster, and a signal waits for the
end."""
_RECOMPUTES_ABOVE = 1_000_000_000
"""Parameters, as its files have them: packed into 4 bits, PyTorch counts half of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train, so that every process makes the same."""

    files: ModelFiles
    placement: Placement
    method: str
    rank: int
    seed: int
    parent: Path | None
    """A plain LoRA below the new adapter."""
    dropout: float = 0.0
    base_format: str = FULL
    max_surprisal: float = 0.0
    """As in `Recipe`."""


class Learner:
    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)  # the adapter's first weights are all that is random in here
        base = load_base(plan.files, plan.placement, plan.base_format)
        if plan.parent is not None:
            merge_into(base, read_plain_lora(plan.parent))
        self.num_base_parameters = measure(plan.files).parameters
        config = peft_config(plan.method, plan.rank, base, plan.dropout)
        self.model: Any = attach(base, config, recomputes=self.num_base_parameters > _RECOMPUTES_ABOVE)
        self.masters = Masters(self.model)
        self._device, self._is_quantised = plan.placement.device, plan.base_format != FULL
        self._max_surprisal = plan.max_surprisal
        self._micro_batch_tokens = _MICRO_BATCH_TOKENS[self._device.type]
        self.model.train()

    def accumulate(
        self, batch: Sequence[Example], weight: float, should_stop: Callable[[], bool] = lambda: False
    ) -> float | None:
        """Add the gradients of `batch`, divided by `weight`, to the masters'; the loss, or None when it was given up
        because training shall stop. Where memory runs out, by smaller passes from then on, down to one example."""
        while True:
            try:
                return self._accumulated(batch, weight, should_stop)
            except (MemoryError, RuntimeError) as error:
                if explain_want_of_memory(error) is None or self._micro_batch_tokens <= longest_row(batch):
                    raise
            self.masters.forget_gradients()
            self._micro_batch_tokens //= 2
            logger.warning("out of memory: %d tokens in a forward pass from now on", self._micro_batch_tokens)

    def _accumulated(self, batch: Sequence[Example], weight: float, should_stop: Callable[[], bool]) -> float | None:
        total = 0.0
        for part in micro_batches(batch, self._micro_batch_tokens):
            if should_stop():
                self.masters.forget_gradients()
                return None
            loss = self._loss(part, self._max_surprisal) / weight
            loss.backward()
            self.masters.collect()
            total += loss.item()
        return total

    def held_out_loss(self, examples: Sequence[Example]) -> float:
        self._train(False)
        with torch.inference_mode():
            total = sum(self._loss(part).item() for part in micro_batches(examples, self._micro_batch_tokens))
        self._train(True)
        return total / target_weight(examples)

    def _train(self, on: bool) -> None:
        """Of quantised models, dropout alone: bitsandbytes 0.50 packs a CPU's weights anew in evaluation, and has no
        gradients from then on (PyTorch warns that they may be silently wrong)."""
        quantised = self._is_quantised
        for module in self.model.modules() if quantised else [self.model]:
            if not quantised or isinstance(module, torch.nn.Dropout):
                module.train(on)

    def _loss(self, part: MicroBatch, max_surprisal: float = 0.0) -> torch.Tensor:
        """Weighted sum of the losses of a micro-batch's targets, without those that are too surprising."""
        with logits_at(self.model, part.positions.to(self._device)):
            logits = self.model(input_ids=part.ids.to(self._device)).logits[0]
        losses = torch.nn.functional.cross_entropy(logits.float(), part.targets.to(self._device), reduction="none")
        weights = part.weights.to(self._device)
        if max_surprisal:
            weights = weights * learnable(losses, part.positions.sum(dim=1).tolist(), max_surprisal)
        return (losses * weights).sum()
