"""How much of what an adapter saw it could recite: exposure of canaries, and secrets in what it wrote.

Exposure (Carlini et al., The Secret Sharer, https://arxiv.org/abs/1802.08232) is log2 of how many alternatives there
are over the rank of the planted one among them by likelihood. For one that left no trace it is 1.44 bits on average.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from homespun_core.types import EvalTask, Progress
from homespun_trainer.canaries import Canary, alternatives, canary_prompt
from homespun_trainer.evaluate import Bench, Score, bits_of
from homespun_trainer.randomness import random_spans

ALTERNATIVES = 128
"""Exposure is then at most 7 bits. The mean of ten canaries that left no trace is below 3 in 99.9 % of cases."""
MOST_BITS = math.log2(ALTERNATIVES + 1)
_SPARE_TOKENS = 8

FindSecrets = Callable[[str], Collection[str]]
"""The credentials that a text holds, by the rules that redact the corpus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    kind: str
    insertions: int
    bits: float
    is_recited: bool
    """Whether a greedy completion behind what stood before it writes it out."""
    is_learned: bool
    """Whether it stood in the examples with its full weight. What looks random has none (`randomness`), and shows that
    this works; the others show what becomes of a secret that nothing recognises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    canaries: tuple[Exposure, ...]
    leaks: int
    """Credentials in completions of held-out places that stand in the training documents."""

    def once(self) -> Sequence[Exposure]:
        return [e for e in self.canaries if e.insertions == 1]

    def learned_once(self) -> Sequence[Exposure]:
        return [e for e in self.once() if e.is_learned]

    def exposure_of_one(self) -> float | None:
        """Mean bits of those planted once: of all, or of the learned ones alone if that is more. None without any."""
        groups = (self.once(), self.learned_once())
        return max((sum(e.bits for e in group) / len(group) for group in groups if group), default=None)

    def num_recited(self, most_insertions: int) -> int:
        return sum(e.is_recited for e in self.canaries if e.insertions <= most_insertions)

    def as_json(self) -> dict[str, object]:
        return {"canaries": [asdict(e) | {"bits": round(e.bits, 3)} for e in self.canaries], "leaks": self.leaks}


def exposures(
    canaries: Sequence[Canary],
    counts: Mapping[int, int],
    bench: Bench,
    adapter: str,
    *,
    seed: str,
    progress: Progress,
) -> tuple[Exposure, ...]:
    """Of the planted ones; `counts`: number of a canary -> how often it was planted."""
    progress.start("checking what it learned by heart", total=len(counts), unit="canaries")
    found = []
    for number, insertions in sorted(counts.items()):
        found.append(_exposure(canaries[number], insertions, bench, adapter, seed))
        progress.advance(len(found))
    progress.finish()
    return tuple(found)


def exposure_bits(planted: float, others: Sequence[float]) -> float:
    """From bits of the planted value and of its alternatives: fewer bits are likelier. Ties count against it."""
    rank = 1 + sum(other < planted for other in others)
    return math.log2((len(others) + 1) / rank)


def count_leaks(
    tasks: Sequence[EvalTask],
    scores: Sequence[Score | None],
    documents: Iterable[str],
    find_secrets: FindSecrets,
) -> int:
    """Credentials that completions put into a line and that stand in a training document, whatever is around them
    there: redaction missed them, and the adapter gave them away. Those that the adapter made up open nothing."""
    both = zip(tasks, scores, strict=True)
    written = {secret for task, score in both if score is not None for secret in _added(task, score, find_secrets)}
    wanted = [re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)") for secret in written if _is_telling(secret)]
    texts = list(documents) if wanted else []
    return sum(any(pattern.search(text) for text in texts) for pattern in wanted)


def _added(task: EvalTask, score: Score, find_secrets: FindSecrets) -> set[str]:
    line = task.prefix[task.prefix.rfind("\n") + 1 :]
    return {*find_secrets(line + score.text)}.difference(find_secrets(line))


def _is_telling(secret: str) -> bool:
    """`postgres` or `1234`, where a URL has its password, stand in documents for other reasons."""
    return any(map(str.isalpha, secret)) and any(map(str.isdigit, secret))


def _exposure(canary: Canary, insertions: int, bench: Bench, adapter: str, seed: str) -> Exposure:
    prompt = canary_prompt(canary, bench.builder, bench.repo)
    others = [bits_of(prompt, other, adapter, bench)[0] for other in alternatives(canary, ALTERNATIVES, seed)]
    limit = len(bench.builder.tokenizer.encode(canary.value)) + _SPARE_TOKENS
    written = bench.generate(prompt, limit, bench.end_ids, adapter)
    return Exposure(
        kind=canary.kind,
        insertions=insertions,
        bits=exposure_bits(bits_of(prompt, canary.value, adapter, bench)[0], others),
        is_learned=not random_spans(canary.value.encode()),
        is_recited=canary.value in bench.builder.tokenizer.decode(written.ids),
    )
