from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from homespun_core.prompt import Prompt
from homespun_core.types import EvalTask, SearchQuery, SilentProgress, Snippet
from homespun_trainer.evaluate import (
    MAX_NEW_TOKENS,
    Arm,
    Bench,
    Generate,
    Score,
    ScoreIds,
    Written,
    evaluate,
)
from homespun_trainer.examples import Retrieve
from homespun_trainer.summaries import by_language, difference, summarise
from tests.trainer.tiny import BUILDER, FORMAT, TOKENIZER, nearest

ARMS = [
    Arm(name="base", adapter=None, snippets="none", every=2),
    Arm(name="base+retrieval", adapter=None, snippets="found"),
    Arm(name="adapter+retrieval", adapter="candidate", snippets="found"),
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
        retrieve=lambda _: nearest,
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
    assert (adapted.ending, base.ending, base.identifiers) == ("right", None, 0.0)


def test_arms_differ_in_snippets_and_adapter_only() -> None:
    parrot = Parrot()
    evaluate([task(0)], ARMS, bench(parrot), SilentProgress())
    bare, retrieved, adapted = parrot.asked
    assert "lib/base.py" not in bare[0] and "lib/base.py" in retrieved[0]
    assert adapted == (*retrieved[:3], "candidate")
    assert all(limit == MAX_NEW_TOKENS for _, limit, _, _ in parrot.asked)


def test_an_arm_can_be_asked_at_every_second_place_only() -> None:
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


def test_random_snippets_are_those_of_another_place() -> None:
    there, asked = list[str](), list[str | None]()

    def retrieve(place: EvalTask) -> Retrieve:
        there.append(place.path)

        def search(query: SearchQuery) -> Sequence[Snippet]:
            asked.append(query.path)
            return [Snippet(path="lib/base.py", start_line=1, text="x", score=1.0, source="usage")]

        return search

    arm = Arm(name="random", adapter=None, snippets="random")
    evaluate([task(i) for i in range(4)], [arm], replace(bench(Parrot()), retrieve=retrieve), SilentProgress())
    assert asked == ["m2.py", "m3.py", "m0.py", "m1.py"] and there == ["m0.py", "m1.py", "m2.py", "m3.py"]


def test_what_has_a_voice_at_a_place_is_told_its_file_and_scores_too() -> None:
    parrot, paths = Parrot(), list[str]()

    def mixing(task: EvalTask, opening: str) -> tuple[Generate, ScoreIds]:
        paths.append(task.path)
        return (
            lambda prompt, limit, ends, adapter: Written(ids=TOKENIZER.encode("total()"), is_truncated=False),
            lambda ids, start, adapter: [math.log(0.5)] * (len(ids) - start),
        )

    arms = [Arm(name="base", adapter=None, snippets="none"), Arm(name="m", adapter=None, snippets="none", mixes=True)]
    scores = evaluate([task(0)], arms, replace(bench(parrot), mixing=mixing), SilentProgress())
    base, mixed = scores["base"][0], scores["m"][0]
    assert base is not None and mixed is not None and paths == ["m0.py"]
    assert (base.text, base.exact, mixed.text, mixed.exact) == ("items", False, "total()", True)
    assert mixed.bits == base.bits / 2


def test_what_is_known_is_not_asked_again() -> None:
    class Memory:
        def __init__(self) -> None:
            self.scores: dict[tuple[str, str], Score] = {}

        def find(self, arm: Arm, task: EvalTask) -> Score | None:
            return self.scores.get((arm.key, task.path))

        def add(self, arm: Arm, task: EvalTask, score: Score) -> None:
            self.scores[arm.key, task.path] = score

    parrot, known, tasks = Parrot(), Memory(), [task(i) for i in range(4)]
    first = evaluate(tasks[:2], ARMS[1:], bench(parrot), SilentProgress(), known)
    assert len(parrot.asked) == 4
    second = evaluate(tasks, ARMS[1:], bench(parrot), SilentProgress(), known)
    assert len(parrot.asked) == 8 and second["base+retrieval"][:2] == first["base+retrieval"]


def test_languages_with_few_places_have_no_summary_of_their_own() -> None:
    tasks = [replace(task(i), language="go" if i == 0 else "python") for i in range(4)]
    scores = evaluate(tasks, ARMS, bench(Parrot()), SilentProgress())
    found = by_language(tasks, scores["adapter+retrieval"], scores["base+retrieval"], least=2)
    assert list(found) == ["python"] and found["python"].num_tasks == 3


def test_a_difference_says_which_lines_were_gained() -> None:
    tasks = [task(i) for i in range(5)]
    scores = evaluate(tasks, ARMS, bench(Parrot()), SilentProgress())
    change = difference(tasks, scores["adapter+retrieval"], scores["base+retrieval"])
    assert change.swaps is not None and (change.swaps.gained, change.swaps.lost) == (5, 0)
    assert change.stop_accuracy is None  # "items" departs from what was written: it has no right end


def test_a_difference_says_how_many_lines_could_end_rightly_in_the_arm_with_fewer() -> None:
    tasks = [task(i) for i in range(5)]
    made = evaluate(tasks, ARMS, bench(Parrot()), SilentProgress())
    parrot, items = made["adapter+retrieval"], made["base+retrieval"]
    ended = [replace(score, ending="early" if i < 3 else None) for i, score in enumerate(parrot) if score]
    assert difference(tasks, parrot, ended).num_ended == difference(tasks, ended, parrot).num_ended == 3
    assert summarise(tasks, parrot).num_ended == 5 and summarise(tasks, items).num_ended == 0
