"""Kahneman-Tversky optimisation: what people took becomes likelier and what they dismissed less, both against the model
that wrote it (Ethayarajh et al. 2024, https://arxiv.org/abs/2402.01306, equations 7 and 8).

TRL 1.16 has this loss too, in a trainer that takes text alone: it spells prompt and completion again as one text, so
that source code could spell control tokens and the word before the cursor would be in other tokens, and adds an end to
each. It has no place for our time budget, signals and fp32 weights, and brings pandas and pyarrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from homespun_trainer.batches import MicroBatch, micro_batches
from homespun_trainer.examples import Example
from homespun_trainer.learner import Learner, Plan
from homespun_trainer.lora import logits_at
from homespun_trainer.preferences.rows import DISMISSED

BETA = 0.1
"""How dear it is to move away from the model that wrote it."""
_MICRO_BATCH_TOKENS = {"cpu": 4096, "cuda": 16_384}


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Weights of the two kinds."""

    taken: float
    dismissed: float


def balanced(num_taken: int, num_dismissed: int) -> Balance:
    """So that both kinds weigh the same together, the rarer one by more than 1."""
    most = max(num_taken, num_dismissed)
    return Balance(taken=most / num_taken, dismissed=most / num_dismissed)


def mismatched(batch: Sequence[Example]) -> list[Example]:
    """Each prompt with the next one's completion: what the model has moved by as a whole shows there."""
    return [_joined(a, b) for a, b in zip(batch, [*batch[1:], *batch[:1]], strict=True)]


def losses(ratios: torch.Tensor, is_taken: torch.Tensor, shift: torch.Tensor, balance: Balance) -> torch.Tensor:
    """`ratios`: how much likelier each completion has become, in nats; `shift`: the same of mismatched ones."""
    towards = torch.where(is_taken, ratios - shift, shift - ratios)
    weights = torch.where(is_taken, balance.taken, balance.dismissed)
    return weights * (1 - torch.sigmoid(BETA * towards))


class Tuner:
    """The model with its new adapter; without it, it is the one that people had."""

    def __init__(self, plan: Plan, balance: Balance) -> None:
        self.learner = Learner(plan)
        self._device, self._balance = plan.placement.device, balance

    def accumulate(self, batch: Sequence[Example]) -> float:
        """Add the gradients of the mean loss to the masters'; the loss."""
        shift = self.ratios(mismatched(batch)).mean().clamp(min=0)
        total = 0.0
        for rows, part in self._parts(batch):
            is_taken = torch.tensor([row.kind != DISMISSED for row in rows], device=self._device)
            ratios = self._likelihoods(part) - self._before(part)
            loss = losses(ratios, is_taken, shift, self._balance).sum() / len(batch)
            loss.backward()
            self.learner.masters.collect()
            total += loss.item()
        return total

    def ratios(self, rows: Sequence[Example]) -> torch.Tensor:
        """How much likelier each has become, in nats; shortest rows first."""
        with torch.no_grad():
            found = [self._likelihoods(part) - self._before(part) for _, part in self._parts(rows)]
        return torch.cat(found)

    def _before(self, part: MicroBatch) -> torch.Tensor:
        with torch.no_grad(), self.learner.model.disable_adapter():
            return self._likelihoods(part)

    def _likelihoods(self, part: MicroBatch) -> torch.Tensor:
        """Log-likelihood of each row's completion."""
        with logits_at(self.learner.model, part.positions.to(self._device)):
            logits = self.learner.model(input_ids=part.ids.to(self._device)).logits[0]
        of_tokens = -torch.nn.functional.cross_entropy(
            logits.float(), part.targets.to(self._device), reduction="none"
        ) * part.weights.to(self._device)
        rows = part.positions.nonzero()[:, 0].to(self._device)
        return torch.zeros(len(part.ids), device=self._device).index_add(0, rows, of_tokens)

    def _parts(self, rows: Sequence[Example]) -> list[tuple[list[Example], MicroBatch]]:
        """The micro-batches with their rows."""
        ordered, found, at = by_length(rows), list[tuple[list[Example], MicroBatch]](), 0
        for part in micro_batches(ordered, _MICRO_BATCH_TOKENS[self._device.type]):
            found.append((ordered[at : at + len(part.ids)], part))
            at += len(part.ids)
        return found


def by_length(rows: Sequence[Example]) -> list[Example]:
    """The order of micro-batches."""
    return sorted(rows, key=lambda row: len(row.ids))


def _joined(prompt: Example, written: Example) -> Example:
    ids = (*prompt.ids[: prompt.prompt_tokens], *written.ids[written.prompt_tokens :])
    num_written = len(written.ids) - written.prompt_tokens
    weights = (*[0.0] * prompt.prompt_tokens, *[1.0] * num_written)
    return Example(ids=ids, weights=weights, prompt_tokens=prompt.prompt_tokens, kind=written.kind)
