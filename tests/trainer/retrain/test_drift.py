from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from homespun_core.prompt import Prompt
from homespun_core.registry import Adapter
from homespun_core.retraining import FreshScore
from homespun_core.types import EvalTask, SilentProgress
from homespun_trainer.evaluate import Arm, Bench, Generate, ScoreIds, Written, evaluate
from homespun_trainer.retrain.drift import FreshPlace, baseline_of, fresh_score, is_alarm, num_places, places_of
from homespun_trainer.retrain.policy import is_measuring_due
from tests.trainer.tiny import BUILDER, nearest

DAY = 86_400.0


def adapter(report: dict[str, object]) -> Adapter:
    return Adapter(version="v1", path=Path(), base_digest="d", report=report)


JUDGED = adapter({"arms": {"adapter+retrieval": {"all": {"bits_per_byte": {"value": 1.2}}}}})

SURE = adapter({"arms": {"adapter+retrieval": {"all": {"bits_per_byte": {"value": 0.5}}}}})


def task(commit: int) -> EvalTask:
    return EvalTask(
        path="a.py", language="python", commit=f"{commit}", prefix="x = ", middle="load()", suffix="\n", seen=False
    )


def half_a_chance(ids: Sequence[int], start: int, adapter: str | None) -> list[float]:
    """Each of the tokens, which are bytes here, costs one bit."""
    return [math.log(0.5)] * (len(ids) - start)


def says_nothing(prompt: Prompt, max_new_tokens: int, end_ids: frozenset[int], adapter: str | None) -> Written:
    return Written(ids=(), is_truncated=False)


def bench(score: ScoreIds = half_a_chance) -> Bench:
    return Bench(
        builder=BUILDER,
        repo="shop",
        retrieve=lambda _: nearest,
        generate=says_nothing,
        score=score,
        end_ids=frozenset(),
    )


def measured(
    tasks: Sequence[EvalTask], of: Adapter, score: ScoreIds = half_a_chance, *, now: float = 5.0
) -> FreshScore:
    places = places_of("shop-1", tasks, bench(score), of)
    return fresh_score(places, adapter=of, head="h", percent=3.0, now=now)


def place(repository: str, bits: float) -> FreshPlace:
    return FreshPlace(repository=repository, commit="c", bits=bits, bytes=10)


def test_bits_are_counted_with_the_voice_of_all_other_files() -> None:
    heard = list[str]()

    def mixing(task: EvalTask, opening: str) -> tuple[Generate, ScoreIds]:
        heard.append(task.path)
        return says_nothing, lambda ids, start, adapter: [math.log(0.25)] * (len(ids) - start)

    tasks = [task(n) for n in range(3)]
    plain = places_of("shop-1", tasks, bench(), JUDGED)
    voiced = places_of("shop-1", tasks, replace(bench(), mixing=mixing), JUDGED)
    assert heard == [task.path for task in tasks]
    assert [place.bits for place in voiced] == [2 * place.bits for place in plain]


def test_bits_are_counted_as_the_gate_counts_them() -> None:
    """Over the written text and the end behind it, by bytes of the text."""
    score = measured([task(n) for n in range(3)], JUDGED)
    assert (score.places, score.adapter, score.head, score.baseline) == (3, "v1", "h", 1.2)
    assert score.bits_per_byte == pytest.approx((score.bytes + 3) / score.bytes)
    assert score.low == pytest.approx(score.bits_per_byte) and not score.is_alarm


def test_one_commit_raises_no_alarm_however_unlikely_it_is() -> None:
    """Its interval was a point, so whatever was pushed first could say that the adapter had drifted."""
    one, several = (measured([task(n % commits) for n in range(12)], SURE) for commits in (1, 3))
    assert one.drift_percent == several.drift_percent and (one.drift_percent or 0) > 3
    assert (one.low, one.is_alarm, several.is_alarm) == (None, False, True)


@pytest.mark.parametrize("middle", ["load()", "load(", "[", "rows = [ ", "{"])
def test_a_line_costs_what_it_cost_when_the_adapter_was_judged(middle: str) -> None:
    """Where a line leaves a bracket open the gate counts no end behind it; drift did, and no adapter writes one there:
    fresh code with more such lines looked worse than it was."""

    def by_token(ids: Sequence[int], start: int, adapter: str | None) -> list[float]:
        return [-0.01 * (1 + hash((tuple(ids[:i]), ids[i])) % 97) for i in range(start, len(ids))]

    asked = [replace(task(n), middle=middle, path=path) for n, path in enumerate(("a.py", "lib/base.py"))]
    arm = Arm(name="adapter", adapter="v1", snippets="found")
    judged = evaluate(asked, [arm], bench(by_token), SilentProgress())["adapter"]
    score = measured(asked, JUDGED, by_token)
    assert score.bits == pytest.approx(sum(s.bits for s in judged if s))
    assert score.bytes == sum(s.num_bytes for s in judged if s)


def test_an_alarm_is_more_than_so_many_percent_and_more_than_chance() -> None:
    assert is_alarm(1.04, 1.01, 1.0, 3.0)
    assert not is_alarm(1.02, 1.01, 1.0, 3.0)
    assert not is_alarm(1.10, 0.99, 1.0, 3.0)


@pytest.mark.parametrize("report", [{}, {"arms": {}}, {"arms": None}, {"arms": {"adapter+retrieval": {"all": 1}}}])
def test_one_that_was_not_judged_has_no_baseline_and_no_alarm(report: dict[str, object]) -> None:
    assert baseline_of(adapter(report), [place("shop-1", 1)]) is None
    assert baseline_of(JUDGED, [place("shop-1", 1)]) == 1.2
    assert not measured([task(1)], adapter(report)).is_alarm


def test_a_shared_adapter_is_held_against_what_it_did_in_the_repositories_that_have_changed() -> None:
    """They differ by more than any drift; where one alone is worked on, it alone is the measure."""
    shared = adapter({**JUDGED.report, "bits_per_byte": {"shop-1": 1.0, "web-2": 2.0}})
    shop, web, api = place("shop-1", 10), place("web-2", 20), place("api-3", 12)
    assert [baseline_of(shared, each) for each in ([shop], [web], [api], [shop, web])] == [1.0, 2.0, 1.2, 1.5]
    score = fresh_score([shop, web, api], adapter=shared, head="h", percent=3.0, now=5.0)
    assert (score.bits, score.bytes, score.places) == (42, 30, 3)
    assert score.drift_percent == pytest.approx(0) and not score.is_alarm


@pytest.mark.parametrize(("wanted", "shared_by", "each"), [(40, 1, 40), (40, 2, 20), (40, 9, 12), (5, 9, 5), (0, 2, 0)])
def test_repositories_that_share_an_adapter_share_its_places(wanted: int, shared_by: int, each: int) -> None:
    assert num_places(wanted, shared_by) == each


def test_it_is_measured_once_a_day_and_only_when_something_was_pushed() -> None:
    scores = [measured([task(1)], JUDGED, now=0.0)]
    assert is_measuring_due([], "v1", "h", 0.0)
    assert not is_measuring_due(scores, "v1", "h", 9 * DAY)
    assert not is_measuring_due(scores, "v1", "newer", DAY - 1)
    assert is_measuring_due(scores, "v1", "newer", DAY)
    assert is_measuring_due(scores, "v2", "h", 1.0)
