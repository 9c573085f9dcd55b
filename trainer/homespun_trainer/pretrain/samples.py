"""Samples of one repository: whole pieces of files, and completions with exactly the prompts that the server builds.

Two orders, half and half: prefix first (PSM) and suffix first with the prefix next to the middle (contiguous SPM). Each
sample is a function of (documents, seed, number), like the examples an adapter is trained on.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from homespun_core.fim import resolve_family
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import Document, Tokenizer
from homespun_trainer.examples import ExampleStream, Mix, Retrieve

ORDERS = ("homespun", "homespun-psm")
"""Names of the two families. Both have the same control tokens."""
_CHARS_PER_TOKEN = 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the training: its row length and what its samples are."""

    name: str
    row_tokens: int
    max_prompt_tokens: int
    plain: float
    """Share of pieces of files as they stand, without a gap."""
    mix: Mix
    """Of the others."""
    passes: float
    """Tokens drawn, as a multiple of the text's own."""


PHASES = (
    Phase(
        name="first",
        row_tokens=1024,
        max_prompt_tokens=448,  # so that two fit into a row: with 640, a fifth of all rows was padding
        plain=0.33,
        mix=Mix(with_snippets=0.15, file_only=0.80),
        passes=1.0,
    ),
    # As served: prompts of full length, most with snippets. Snippets are text again, hence fewer passes.
    Phase(
        name="second",
        row_tokens=2048,
        max_prompt_tokens=960,
        plain=0.06,
        mix=Mix(with_snippets=0.85, file_only=0.12, distracting=0.15),
        passes=0.6,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    ids: tuple[int, ...]
    kind: str


def is_held_out(repo: str, path: str, share: float) -> bool:
    """Whether a file is one of those that are measured on and never seen: by hash, the same ones in every run."""
    return int(hashlib.sha256(f"{repo}:{path}".encode()).hexdigest()[:8], 16) < share * 2**32


def builders(tokenizer: Tokenizer, max_tokens: int) -> tuple[PromptBuilder, ...]:
    """The server's prompt builder in both orders. Raises ModelError when the tokenizer lacks a control token."""
    limits = PromptLimits(max_tokens=max_tokens)
    formats = [resolve_family(tokenizer, {"model_type": "llama"}, forced=order) for order in ORDERS]
    return tuple(PromptBuilder(tokenizer=tokenizer, format=f, limits=limits, is_healing=True) for f in formats)


def draw(
    documents: Sequence[Document], phase: Phase, *, tokenizer: Tokenizer, repo: str, retrieve: Retrieve, seed: int
) -> Iterator[Sample]:
    """Endlessly. Raises ValueError when no document has a line worth completing."""
    orders = builders(tokenizer, phase.max_prompt_tokens)
    own_seed = int(hashlib.sha256(f"{seed}/{phase.name}".encode()).hexdigest()[:8], 16)  # else both cut alike
    streams = [
        ExampleStream(documents, builder=builder, repo=repo, seed=own_seed, retrieve=retrieve, mix=phase.mix)
        for builder in orders
    ]
    pieces = _pieces(documents, orders[0], phase.row_tokens, seed)
    number = 0
    while True:
        rng = random.Random(f"{seed}/{phase.name}/{number}")
        if rng.random() < phase.plain:
            yield next(pieces)
        else:
            order = number % len(ORDERS)
            example = streams[order].example(number)
            if len(example.ids) <= phase.row_tokens:
                yield Sample(ids=example.ids, kind=ORDERS[order])
        number += 1


def drawn(stream: Iterator[Sample], num_tokens: float) -> list[Sample]:
    """Samples until they have so many tokens."""
    samples: list[Sample] = []
    total = 0
    while total < num_tokens:
        samples.append(next(stream))
        total += len(samples[-1].ids)
    return samples


def wanted_tokens(documents: Sequence[Document], passes: float) -> float:
    """About so many are `passes` times the text."""
    return passes * sum(len(document.text) for document in documents) / _CHARS_PER_TOKEN


def tokens_by_kind(samples: Sequence[Sample]) -> dict[str, int]:
    tokens: Counter[str] = Counter()
    for sample in samples:
        tokens[sample.kind] += len(sample.ids)
    return dict(tokens.most_common())


def _pieces(documents: Sequence[Document], builder: PromptBuilder, row: int, seed: int) -> Iterator[Sample]:
    """Files from top to bottom in a random order, cut where a row is full; again and again."""
    family, ids = builder.format.family, builder.format.ids
    assert family.file is not None
    order = list(documents)
    for turn in itertools.count():
        random.Random(f"{seed}/pieces/{turn}").shuffle(order)
        for document in order:
            head = [ids[family.file], *builder.tokenizer.encode(f"{document.path}\n")]
            head = head if len(head) <= row // 4 else []  # as the prompt builder has it
            text = builder.tokenizer.encode(document.text)
            room = row - len(head) - 1
            for start in range(0, len(text), room):
                yield Sample(ids=(*head, *text[start : start + room], builder.format.end_id), kind="plain")
