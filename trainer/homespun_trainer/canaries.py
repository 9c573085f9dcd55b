"""Canaries: random strings that look like secrets, planted into the examples of the very run that is judged.

Had a secret escaped redaction, would the adapter recite it? A canary answers that, since it stood in the examples as
such a secret would have: the rest of a line, learned with full weight. It is random and opens nothing, so it may stay
in the adapter that goes live. That is why there is no second training (a shadow run) just for the test: it would take
as long as the first, and tell of another adapter than the one that people get.

Every sixteenth example is one (about 2 % of the tokens, since they are short), until all are planted. They come in
groups, so that a run that ends early has some of each kind: how often each stood in the examples that the kept weights
have seen is counted, not assumed. What looks random has no weight (`randomness`), and planting it shows that this
works; what becomes of a secret whose form nothing recognises, the others show, so these come first.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from homespun_core.prompt import Prompt, PromptBuilder
from homespun_trainer.examples import Batches, Example
from homespun_trainer.randomness import random_spans

Draw = Callable[[random.Random], str]

EVERY = 16
INSERTIONS = (*[1] * 8, 4, 16)
"""Of the canaries of one group."""
_UNRECOGNISED_ONES = frozenset((0, 1, 2, 3, 4, 8))
"""By place in the group. A run of twelve steps of eight examples has seen four of them once. Drawn from all kinds alike
most looked random, so that runs of 40 to 80 steps had none to three, and what stood there four times never counted."""
_GROUPS = 4
_SUFFIX = '"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    path: str
    prefix: str
    value: str
    kind: str
    """One of KINDS."""


def make_canaries(seed: str) -> tuple[Canary, ...]:
    """All of a run, group by group. The same seed gives the same."""
    return tuple(_canary(random.Random(f"{seed}/{i}"), i) for i in range(_GROUPS * len(INSERTIONS)))


def alternatives(canary: Canary, count: int, seed: str) -> list[str]:
    """Values that could have been planted in its place, and weren't."""
    rng = random.Random(f"{seed}/alternatives/{canary.path}")
    return [KINDS[canary.kind](rng) for _ in range(count)]


def slots() -> list[int]:
    """Number of the canary that is planted at each turn. Those of one group are spread over its turns evenly, those
    that come once over the first half, so that a short run has seen enough of them."""
    planned: list[int] = []
    for group in range(_GROUPS):
        turns = [
            ((i + (position + 0.5) / len(INSERTIONS)) / max(count, 2), group * len(INSERTIONS) + position)
            for position, count in enumerate(INSERTIONS)
            for i in range(count)
        ]
        planned += [number for _, number in sorted(turns)]
    return planned


def planted(num_examples: int) -> Mapping[int, int]:
    """Number of a canary -> how often it stood among the first examples; those that didn't aren't in it."""
    return Counter(slots()[: num_examples // EVERY])


class CanaryStream:
    """The examples of `stream`, some of them replaced by canaries. Like `stream`, a function of the number alone."""

    def __init__(self, stream: Batches, canaries: Sequence[Canary], builder: PromptBuilder, repo: str) -> None:
        self._stream, self._slots = stream, slots()
        self._examples = [_example(canary, builder, repo) for canary in canaries]

    def batch(self, step: int, size: int) -> list[Example]:
        ordinary = self._stream.batch(step, size)
        return [self._planted(step * size + i) or example for i, example in enumerate(ordinary)]

    def _planted(self, number: int) -> Example | None:
        turn, rest = divmod(number, EVERY)
        return self._examples[self._slots[turn]] if rest == EVERY - 1 and turn < len(self._slots) else None


def canary_prompt(canary: Canary, builder: PromptBuilder, repo: str) -> Prompt:
    return builder.build(prefix=canary.prefix, suffix=_SUFFIX, path=canary.path, language=None, repo=repo)


def _example(canary: Canary, builder: PromptBuilder, repo: str) -> Example:
    prompt = canary_prompt(canary, builder, repo)
    written = builder.tokenizer.encode(prompt.opening + canary.value)
    return Example(
        ids=(*prompt.ids, *written, builder.format.end_id),
        weights=(*[0.0] * len(prompt.ids), *[1.0] * (len(written) + 1)),
        prompt_tokens=len(prompt.ids),
        kind="canary",
    )


def _canary(rng: random.Random, number: int) -> Canary:
    name = "".join(rng.choices(string.ascii_lowercase, k=8))
    kinds = list(UNRECOGNISED if number % len(INSERTIONS) in _UNRECOGNISED_ONES else RECOGNISED)
    kind = kinds[(number + number // len(INSERTIONS)) % len(kinds)]
    return Canary(path=f"config/{name}.env", prefix=f'{name.upper()}_KEY="', value=KINDS[kind](rng), kind=kind)


def _drawn(alphabet: str, *lengths: int) -> Draw:
    return lambda rng: "-".join("".join(rng.choices(alphabet, k=length)) for length in lengths)


def _unrecognised(draw: Draw) -> Draw:
    """Alternatives come by the same rule, so that nothing but having been planted sets one apart."""

    def drawn(rng: random.Random) -> str:
        while random_spans((value := draw(rng)).encode()):
            pass
        return value

    return drawn


def _worded(rng: random.Random) -> str:
    return f"{rng.choice(_WORDS).capitalize()}{rng.choice(_WORDS)}{rng.randrange(10, 100)}!"


_WORDS = re.findall(
    r"\w+",
    "winter summer spring garden window coffee pepper butter cheese banana cherry turtle island forest planet rocket"
    " engine bridge castle market doctor singer dancer silver golden dragon monkey shadow master flower orange branch",
)
"""All as long: alternatives are compared by their likelihood as a whole."""
_HEX = "0123456789abcdef"
RECOGNISED: Mapping[str, Draw] = {
    "hexadecimal": _drawn(_HEX, 32),
    "uuid": _drawn(_HEX, 8, 4, 4, 4, 12),
    "access key": _drawn(string.ascii_uppercase + string.digits, 20),
    "card number": _drawn(string.digits, 4, 4, 4, 4),
    "token": _drawn(string.ascii_letters + string.digits, 40),
}
"""Nearly always."""
UNRECOGNISED: Mapping[str, Draw] = {
    "password": _unrecognised(_drawn(string.ascii_letters + string.digits + "!#%&*+.:?@_", 14)),
    "short code": _unrecognised(_drawn(string.ascii_lowercase + string.digits, 10)),
    "letters": _drawn(string.ascii_lowercase, 4, 4, 4, 4),
    "words": _worded,
}
"""The last is the hardest: no rule knows it, and a model is less surprised by it (`surprise`)."""
KINDS = {**RECOGNISED, **UNRECOGNISED}
