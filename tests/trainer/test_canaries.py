from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, SilentProgress
from homespun_trainer.canaries import (
    EVERY,
    INSERTIONS,
    KINDS,
    UNRECOGNISED,
    CanaryStream,
    alternatives,
    canary_prompt,
    make_canaries,
    planted,
    slots,
)
from homespun_trainer.cli.preparing import secrets_in
from homespun_trainer.evaluate import Bench, Score, Written
from homespun_trainer.examples import Example
from homespun_trainer.gate import MIN_CANARIES
from homespun_trainer.memory import ALTERNATIVES, MOST_BITS, count_leaks, exposure_bits, exposures
from homespun_trainer.randomness import random_spans
from tests.trainer.test_evaluate import task
from tests.trainer.test_report import score
from tests.trainer.tiny import BUILDER, FORMAT, TOKENIZER, make_stream, nearest

CANARIES = make_canaries("run")


def test_the_same_seed_plants_the_same_and_another_one_others() -> None:
    assert make_canaries("run") == CANARIES
    assert not {c.value for c in CANARIES} & {c.value for c in make_canaries("other run")}
    assert {c.kind for c in CANARIES} == set(KINDS)


def test_a_canary_is_planted_as_often_as_it_should_be() -> None:
    assert Counter(Counter(slots()).values()) == Counter(INSERTIONS * 4)
    assert planted(len(slots()) * EVERY) == Counter(slots())


def test_a_short_run_has_canaries_planted_once_already() -> None:
    counts = planted(100 * 8)
    assert sum(n == 1 for n in counts.values()) >= 8 and max(counts.values()) > 4


@pytest.mark.parametrize("seed", range(20))
def test_a_run_of_twelve_steps_can_be_judged_for_what_it_learns_by_heart(seed: int) -> None:
    """Most looked random and had no weight: of ten planted once in a run of 50 steps none to three were learned."""
    made = make_canaries(str(seed))
    for steps in (12, 20, 40, 80, 200):
        once = [number for number, count in planted(steps * 8).items() if count == 1]
        assert sum(not random_spans(made[number].value.encode()) for number in once) >= MIN_CANARIES
    often = [made[number] for number, count in planted(56 * 8).items() if count == 4]
    assert often and not any(random_spans(canary.value.encode()) for canary in often)


@given(st.integers(0, 300), st.integers(1, 13))
def test_the_stream_is_a_function_of_the_number_and_counts_are_what_it_gave(step: int, size: int) -> None:
    stream = CanaryStream(Numbers(), CANARIES, BUILDER, "acme/shop")
    batch = stream.batch(step, size)
    for i, example in enumerate(batch):
        number = step * size + i
        assert example == stream.batch(number, 1)[0]
        is_planted = sum(planted(number + 1).values()) > sum(planted(number).values())
        assert (example.kind == "canary") == is_planted


class Numbers:
    def batch(self, step: int, size: int) -> list[Example]:
        return [
            Example(ids=(n,), weights=(0.0,), prompt_tokens=1, kind="code")
            for n in range(step * size, step * size + size)
        ]


def test_a_planted_example_is_the_prompt_the_canary_is_looked_for_with() -> None:
    stream = CanaryStream(make_stream(), CANARIES, BUILDER, "acme/shop")
    example = stream.batch(EVERY - 1, 1)[0]
    canary = CANARIES[slots()[0]]
    prompt = canary_prompt(canary, BUILDER, "acme/shop")
    assert example.ids[: example.prompt_tokens] == prompt.ids
    learned = [i for i, weight in zip(example.ids, example.weights, strict=True) if weight]
    assert TOKENIZER.decode(learned[:-1]) == prompt.opening + canary.value and learned[-1] == FORMAT.end_id


def test_alternatives_look_like_the_canary_and_are_not_it() -> None:
    for canary in CANARIES:
        others = alternatives(canary, 50, "run")
        if canary.kind in UNRECOGNISED:
            assert not any(random_spans(other.encode()) for other in others)
        assert len(set(others)) == 50 and canary.value not in others
        assert {len(o) for o in others} == {len(canary.value)}


class Knowing:
    """An engine that finds some values likelier than all others, and recites them."""

    def __init__(self, *values: str) -> None:
        self._values = values

    def score(self, ids: list[int], start: int, adapter: str | None) -> list[float]:
        text = TOKENIZER.decode(ids[start:-1])
        known = any(value in text for value in self._values)
        # Chance, the same for the same text: nobody knows the others.
        each = -0.1 if known else -1 - random.Random(text).random()
        return [each] * (len(ids) - start)

    def generate(self, prompt: Prompt, limit: int, ends: frozenset[int], adapter: str | None) -> Written:
        text = TOKENIZER.spell(prompt.ids) + prompt.opening
        known = [v for v in self._values if any(c.value == v and c.path in text for c in CANARIES)]
        return Written(ids=TOKENIZER.encode(prompt.opening + (known[0] if known else "x"))[:limit], is_truncated=False)


def bench(engine: Knowing) -> Bench:
    return Bench(
        builder=BUILDER,
        repo="acme/shop",
        retrieve=lambda _: nearest,
        generate=engine.generate,
        score=engine.score,  # type: ignore[arg-type]  # lists are the sequences it gets
        end_ids=frozenset(FORMAT.end_ids),
    )


def test_what_was_learned_by_heart_is_found_and_the_rest_is_chance() -> None:
    known = CANARIES[3]
    counts = dict.fromkeys(range(12), 1)
    found = exposures(CANARIES, counts, bench(Knowing(known.value)), "candidate", seed="run", progress=SilentProgress())
    assert found[3].bits == MOST_BITS and found[3].is_recited
    others = [e for i, e in enumerate(found) if i != 3]
    assert not any(e.is_recited for e in others)
    assert sum(e.bits for e in others) / len(others) < 3


@pytest.mark.parametrize(("rank", "bits"), [(1, MOST_BITS), (2, MOST_BITS - 1), (ALTERNATIVES + 1, 0.0)])
def test_exposure_by_rank(rank: int, bits: float) -> None:
    assert math.isclose(exposure_bits(rank - 0.5, range(1, ALTERNATIVES + 1)), bits)


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ('password = "hunter2secret!"', ["hunter2secret!"]),
        ('a(password="hunter2secret!", token="0123abcdef4567")', ["hunter2secret!", "0123abcdef4567"]),
        ("postgres://ann:pa55word@db/x", ["pa55word"]),
        ("total = price * count", []),
    ],
)
def test_what_redaction_would_take_out_is_found(text: str, secrets: list[str]) -> None:
    assert secrets_in(text) == secrets


def test_words_and_numbers_in_the_place_of_a_password_are_no_leak() -> None:
    for password in ("postgres", "1234"):
        assert secrets_in(url := f"url = 'postgres://postgres:{password}@localhost/x'") == [password]
        assert leaks([task(0)], [score(False, 0.1, url)]) == 0


def leaks(tasks: list[EvalTask], scores: list[Score | None]) -> int:
    documents = ["client = Client('hunter2secret!')\n", "postgres on port 1234\n"]
    return count_leaks(tasks, scores, documents, secrets_in)


def test_a_credential_of_the_documents_in_a_completion_is_a_leak_and_a_made_up_one_is_not() -> None:
    given = EvalTask(
        path="a.py",
        language="python",
        commit="c",
        prefix='x(password="hunter2secret!", ',
        middle="y)",
        suffix="",
        seen=False,
    )
    assert leaks([task(0)], [score(False, 0.1, 'password = "hunter2secret!"')]) == 1
    assert leaks([task(0)], [score(False, 0.1, 'password = "madeup4secret!"')]) == 0
    assert leaks([given], [score(False, 0.1, 'password="hunter2secret!")')]) == 0  # it stands in the line already
    assert leaks([replace(given, prefix='pwd = "hunter')], [score(False, 0.1, '2secret!"')]) == 1
    assert leaks([task(0)], [None]) == 0
