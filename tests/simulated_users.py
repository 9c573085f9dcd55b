"""People with known tastes, for the real store and the real filter; only they are made up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from homespun_server.feedback.facts import CompletionFact, Event, Fact
from homespun_server.feedback.filter.verdicts import sigmoid

Judge = Callable[[CompletionFact], CompletionFact]
_DAY_S = 86_400.0
_PER_DAY = 40
_BASE = -1.6
TASTE: Mapping[str, float] = {"mean_logprob": 2.4, "num_lines": -0.5, "after_word": 1.2, "after_indent": -1.0}
NO_TASTE: Mapping[str, float] = {}
_WARINESS = 1.5
"""How much less likely somebody takes a text after nothing but bad ones, in log odds; see `wary`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where somebody is helped, and all that chance decides about it: the same for every way of helping."""

    fact: CompletionFact
    leaning: float
    """Of this user."""
    draw: float


def places(num_users: int, num_each: int, *, seed: int, start: float) -> Sequence[Place]:
    """By time, in `start`'s days and those after it."""
    dice = random.Random(seed)
    leanings = [dice.gauss(0.0, 0.4) for _ in range(num_users)]
    made = [_place(dice, seed, user, n, leanings[user], start) for n in range(num_each) for user in range(num_users)]
    return sorted(made, key=lambda place: place.fact.time)


def _place(dice: random.Random, seed: int, user: int, n: int, leaning: float, start: float) -> Place:
    text = max(1, round(dice.lognormvariate(3.2, 0.7)))
    kind = dice.choice(("word", "word", "dot", "indent", "space"))
    fact = CompletionFact(
        id=f"{seed}-{user}-{n}",
        time=start + (n // _PER_DAY + dice.random()) * _DAY_S,
        user=f"user{user}",
        repository="shop",
        language="python" if user % 3 else "go",
        adapter=None,
        characters=text,
        first_line=text,
        latency_ms=100.0,
        features={
            "mean_logprob": -dice.expovariate(1.6),
            "log_characters": math.log1p(text),
            "num_lines": float(1 + (dice.random() < 0.3) * dice.randint(1, 4)),
            f"after_{kind}": 1.0,
        },
    )
    return Place(fact=fact, leaning=leaning, draw=dice.random())


def lived(places: Sequence[Place], taste: Mapping[str, float], judge: Judge, *, wary: bool = False) -> Iterator[Fact]:
    """What the server remembers and the editors tell. With `wary`, bad texts make people look away from the next."""
    trust: dict[str, float] = {}
    for place in places:
        fact = judge(place.fact)
        yield fact
        if fact.verdict == "hide":
            continue
        yield _told(fact, "shown", 0)
        before = trust.get(fact.user, 0.5)
        is_kept = place.draw < _likely(place, taste, _WARINESS * (before - 0.5) if wary else 0.0)
        trust[fact.user] = 0.8 * before + 0.2 * is_kept
        if is_kept:
            yield from (_told(fact, "accepted", fact.characters), _told(fact, "kept", fact.characters))


def _likely(place: Place, taste: Mapping[str, float], mood: float) -> float:
    features = place.fact.features
    liking = sum(w * (features.get(name, 0.0) + _CENTRES.get(name, 0.0)) for name, w in taste.items())
    return sigmoid(_BASE + place.leaning + mood + liking)


_CENTRES = {"mean_logprob": 0.625, "num_lines": -1.0}
"""So that people with tastes keep about as much as people without."""


def _told(fact: CompletionFact, kind: str, characters: int) -> Event:
    return Event(completion=fact.id, kind=kind, time=fact.time, characters=characters)  # type: ignore[arg-type]


def unfiltered(fact: CompletionFact) -> CompletionFact:
    return fact
