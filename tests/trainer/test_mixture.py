from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_trainer.examples import ExampleStream
from homespun_trainer.mixture import FLOOR, Mixture, shares
from tests.trainer.tiny import document, make_stream

NAMES = ("shop-1", "web-2", "api-3")


def stream(name: str) -> ExampleStream:
    return make_stream([document(f"{name}.py", f"def of_{name[:3]}(self):\n    return self.{name[:3]}(ORDERS)\n" * 9)])


STREAMS = {name: stream(name) for name in NAMES}


def by_part(streams: Mapping[str, ExampleStream], seed: int, count: int = 24) -> dict[str, list[object]]:
    mixed, found = Mixture(streams, seed), {name: list[object]() for name in streams}
    for n in range(count):
        found[mixed.part(n)].append(mixed.example(n))
    return found


@given(st.permutations(NAMES), st.integers(0, 5))
def test_parts_in_any_order_give_the_same_examples_of_each_part(order: list[str], seed: int) -> None:
    assert by_part({name: STREAMS[name] for name in order}, seed) == by_part(STREAMS, seed)


@given(st.lists(st.floats(1, 1e9), min_size=1, max_size=9))
def test_shares_add_up_and_none_is_below_the_floor(sizes: list[float]) -> None:
    found = shares(sizes)
    assert sum(found) == pytest.approx(1)
    assert all(share >= FLOOR / len(sizes) for share in found)
    assert [found[i] for i in sorted(range(len(sizes)), key=sizes.__getitem__)] == sorted(found)


def test_one_part_gives_what_its_stream_gives() -> None:
    (alone,) = NAMES[:1]
    assert Mixture({alone: STREAMS[alone]}, 3).batch(1, 8) == STREAMS[alone].batch(1, 8)


def test_examples_come_in_any_order_and_in_the_shares_asked_for() -> None:
    numbers = list(range(600))
    random.Random(0).shuffle(numbers)
    mixed = Mixture(STREAMS, 0)
    counts = Counter(map(mixed.part, numbers))
    expected = dict(zip(sorted(NAMES), shares([STREAMS[n].size for n in sorted(NAMES)]), strict=True))
    assert all(abs(counts[name] / 600 - share) < 0.08 for name, share in expected.items())
