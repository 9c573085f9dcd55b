from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, SilentProgress
from homespun_trainer.evaluate import (
    MAX_NEW_TOKENS,
    Arm,
    Bench,
    Written,
    difference,
    evaluate,
    newline_ids,
    summarise,
)
from tests.trainer.tiny import BUILDER, FORMAT, TOKENIZER, nearest

ARMS = [
    Arm(name="base", adapter=None, retrieval=False),
    Arm(name="base+retrieval", adapter=None, retrieval=True),
    Arm(name="adapter+retrieval", adapter="candidate", retrieval=True),
]


def task(number: int, middle: str = "total()", seen: bool = False) -> EvalTask:
    return EvalTask(
        path=f"m{number}.py",
        language="python",
        commit=f"c{number % 3}",
        prefix="x = basket.",
        middle=middle,
        suffix="\n",
        seen=seen,
    )


class Parrot:
    """Writes one text with the adapter, another without, and finds every byte with it twice as likely."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, frozenset[int], str | None]] = []

    def generate(self, prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None) -> Written:
        self.asked.append((TOKENIZER.spell(prompt.ids), max_new_tokens, end_ids, adapter))
        return Written(ids=TOKENIZER.encode("total()" if adapter else "items"), is_truncated=False)

    def score(self, ids: Sequence[int], start: int, adapter: str | None) -> Sequence[float]:
        return [math.log(0.5 if adapter else 0.25)] * (len(ids) - start)


def bench(parrot: Parrot) -> Bench:
    return Bench(
        builder=BUILDER,
        repo="acme/shop",
        retrieve=nearest,
        generate=parrot.generate,
        score=parrot.score,
        end_ids=frozenset(FORMAT.end_ids),
    )


def test_scores_are_of_the_first_line_and_of_middle_and_end() -> None:
    scores = evaluate([task(0)], ARMS, bench(Parrot()), SilentProgress())
    adapted, base = scores["adapter+retrieval"][0], scores["base+retrieval"][0]
    assert adapted is not None and base is not None
    assert (adapted.exact, adapted.similarity, adapted.bits) == (True, 1.0, 8.0)  # 7 bytes and the end, 1 bit each
    assert (base.exact, base.text, base.bits, base.end_bits) == (False, "items", 16.0, 2.0)


def test_arms_differ_in_snippets_and_adapter_only() -> None:
    parrot = Parrot()
    evaluate([task(0)], ARMS, bench(parrot), SilentProgress())
    bare, retrieved, adapted = parrot.asked
    assert "lib/base.py" not in bare[0] and "lib/base.py" in retrieved[0]
    assert adapted == (*retrieved[:3], "candidate")
    assert all(limit == MAX_NEW_TOKENS for _, limit, _, _ in parrot.asked)


def test_arms_without_retrieval_see_every_second_place() -> None:
    scores = evaluate([task(i) for i in range(5)], ARMS, bench(Parrot()), SilentProgress())
    assert [s is not None for s in scores["base"]] == [True, False, True, False, True]
    assert all(scores["base+retrieval"]) and all(scores["adapter+retrieval"])


def test_a_difference_is_paired_and_counts_commits() -> None:
    tasks = [task(i) for i in range(6)]
    scores = evaluate(tasks, ARMS, bench(Parrot()), SilentProgress())
    change = difference(tasks, scores["adapter+retrieval"], scores["base+retrieval"])
    assert (change.num_tasks, change.num_commits) == (6, 3)
    assert change.exact.value == 1.0
    assert change.bits_per_byte.value == pytest.approx(-8 / 7)
    assert change.text_bits_per_byte.value == pytest.approx(-1)
    bare = difference(tasks, scores["base+retrieval"], scores["base"])
    assert bare.num_tasks == 3


def test_a_part_of_the_tasks_can_be_summed_up_apart() -> None:
    tasks = [task(i, seen=i < 2) for i in range(4)]
    scores = evaluate(tasks, ARMS, bench(Parrot()), SilentProgress())
    assert summarise(tasks, scores["base+retrieval"], [0, 1]).num_tasks == 2
    with pytest.raises(ValueError, match="nothing"):
        summarise(tasks, scores["base"], [1, 3])


def test_tokens_that_start_a_line_end_a_completion_and_others_do_not() -> None:
    found = newline_ids(TOKENIZER, 256)
    assert ord("\n") in found and ord(":") not in found
