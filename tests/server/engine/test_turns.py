"""The engine, a turn at a time."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_server.drafts import drafter
from homespun_server.engine.budget import StepCosts
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.protocol import EngineBusyError, Tree
from tests.server.engine.hash_decoder import (
    ROW_BYTES,
    VOCAB,
    chi_square,
    logits_after,
    plain,
    seed_of,
)
from tests.server.engine.stepped import Asked, Stepped, fail_once


def test_cancelling_and_superseding_take_effect_within_a_step() -> None:
    engine = Stepped()
    cancelled, older = engine.ask([1, 2, 3], 200), engine.ask([4] * 100, 200, client="editor")
    for _ in range(3):
        engine.turn()
    cancelled.job.is_cancelled = True
    newer = engine.ask([5], 4, client="editor")
    other = engine.ask([6], 4, client="editor", tenant="another")
    num_forwards, written = len(engine.base.batches), len(cancelled.read().ids)
    engine.turn()
    assert (cancelled.reason, older.reason) == ("cancelled", "superseded")
    assert len(cancelled.ids) == written and len(engine.base.batches[num_forwards]) == 2
    engine.finish()
    assert newer.reason == other.reason == "length"
    engine.close()


def test_of_a_long_prompt_that_is_cancelled_no_chunk_is_computed_but_the_one_that_was_begun() -> None:
    engine, asked = Stepped(), list[Asked]()
    cancelled = engine.ask([1] * 400, 24)
    engine.turn()

    def hang_up(batch: Sequence[Segment]) -> None:
        cancelled.job.is_cancelled = True
        asked.append(engine.ask([2] * 8, 1, tenant="another"))
        engine.base.before = lambda batch: None

    engine.base.before = hang_up
    engine.finish()
    assert engine.base.batches == [[64], [64], [8]]
    assert cancelled.reason == "cancelled" and asked[0].read().ids == plain(0, [2] * 8, 1)
    engine.close()


def test_a_superseded_requests_rows_and_text_serve_the_next() -> None:
    engine, ids = Stepped(), list(range(10)) * 4
    first = engine.ask(ids, 12, client="editor")
    while len(first.read().ids) < 5:
        engine.turn()
    second = engine.ask([*ids, *first.ids[:2]], 10, client="editor")
    engine.finish()
    assert first.reason == "superseded"
    assert [*first.ids[:2], *second.read().ids] == plain(0, ids, 12)
    assert second.job.run.cached_tokens == len(ids) + 1 and second.job.run.accepted_tokens >= 3
    engine.close()


def test_typing_along_a_suggestion_takes_one_step() -> None:
    engine, ids = Stepped(), list(range(10)) * 4
    text = plain(0, ids, 24)
    engine.ask(ids, 12)
    engine.finish()
    for typed in (0, 3, 5):
        asked = engine.ask([*ids, *text[:typed]], 12 - typed)
        engine.finish()
        assert asked.read().ids == text[typed:12] and asked.job.run.num_steps == 1
    asked = engine.ask([*ids, *text[:2]], 12)  # 10 that were there, and 2 that were not
    engine.finish()
    assert asked.read().ids == text[2:14] and asked.job.run.num_steps == 2
    sampled = engine.ask(ids, 12, temperature=0.9, seed=3)
    engine.finish()
    assert sampled.read().ids == plain(0, ids, 12, 0.9, 3)
    engine.close()


def test_the_end_of_a_suggestion_is_remembered_too() -> None:
    engine, ids = Stepped(), list(range(10)) * 4
    text = plain(0, ids, 24)
    end = next(token for n, token in enumerate(text) if n > 4 and token not in text[:n])
    for typed in (0, 2):
        asked = engine.ask([*ids, *text[:typed]], 20, end_ids=frozenset([end]))
        engine.finish()
    assert asked.reason == "stop" and asked.job.run.num_steps == 1
    engine.close()


def test_requests_share_forwards_with_those_of_the_same_weights() -> None:
    engine = Stepped()
    engine.load_adapter("a", Path("a"))
    adapted = engine.source.made[1]
    asked = [engine.ask([n], 8, adapter=adapter) for n, adapter in enumerate([None, "a", None, None, "a"])]
    engine.finish()
    assert [len(batch) for batch in engine.base.batches] == [3] * 8
    assert [len(batch) for batch in adapted.batches] == [2] * 8
    assert all(one.reason == "length" for one in asked)
    engine.close()


@settings(max_examples=50, deadline=None)
@given(
    longs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(60, 250)), max_size=5),
    num_turns=st.integers(0, 12),
    adapter=st.sampled_from("abc"),
    typed=st.integers(1, 9),
)
def test_a_keystroke_never_waits_for_more_than_a_chunk_of_other_prompts(
    longs: list[tuple[str, int]], num_turns: int, adapter: str, typed: int
) -> None:
    """With one adapter or with many: before, it waited until all prompts that came earlier were computed."""
    engine, ids = Stepped(), list(range(16)) * 8
    for name in "abc":
        engine.load_adapter(name, Path(name))
    engine.ask(ids, 0, adapter=adapter, priority="warm")
    engine.finish()
    chunks = 0
    for name, length in longs:
        engine.ask([7] * length, 4, adapter=name)
    for _ in range(num_turns):
        engine.turn()
    before = [len(decoder.batches) for decoder in engine.source.made]
    asked = engine.ask([*ids, *[5] * typed], 8, adapter=adapter)
    while not asked.read().has_ended:
        engine.turn()
    for decoder, number in zip(engine.source.made, before, strict=True):
        chunks += sum(max(batch) > 32 for batch in decoder.batches[number:])
    assert asked.reason == "length" and asked.ids == plain(seed_of(Path(adapter)), asked.request.ids, 8)
    assert chunks <= 1
    engine.finish()
    engine.close()


@settings(max_examples=25, deadline=None)
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_long_prompt_is_computed_however_many_others_keep_coming(names: list[str], seed: int) -> None:
    engine, chooser = Stepped(), random.Random(seed)
    for name in "abc":
        engine.load_adapter(name, Path(name))
    long, others = engine.ask([7] * 400, 4, adapter="a"), list[Asked]()
    for turn in range(500):
        others = [one for one in others if not one.read().has_ended]
        others += [
            engine.ask([turn % 16, n], chooser.randrange(1, 30), adapter=name)
            for n, name in enumerate(names[len(others) :])
        ]
        engine.turn()
        if long.read().has_ended:
            break
    assert long.reason == "length" and long.ids == plain(seed_of(Path("a")), [7] * 400, 4)
    engine.finish()
    engine.close()


def test_a_prompt_is_computed_in_chunks_while_others_go_on() -> None:
    engine = Stepped()
    short = engine.ask([1], 100)
    engine.turn()
    long = engine.ask([2] * 200, 4)
    while not short.read().has_ended:
        engine.turn()
    chunks = [batch for batch in engine.base.batches if max(batch) > 1]
    assert chunks == [[1, 64]] * 2, "40 steps take as long as two chunks"
    engine.finish()
    assert long.reason == "length" and max(sum(batch) for batch in engine.base.batches) <= 64 + 2
    engine.close()


def test_nothing_of_one_tenant_serves_another() -> None:
    engine, ids = Stepped(), list(range(16)) * 4
    cached = []
    for tenant in ("x", "y", "x"):
        asked = engine.ask(ids, 8, tenant=tenant)
        engine.finish()
        cached.append((asked.job.run.cached_tokens, asked.job.run.num_steps))
    assert cached == [(0, 8), (0, 8), (len(ids) - 1, 1)]
    engine.close()


def test_a_fast_client_cant_starve_others() -> None:
    """Each of its requests ends the one before and has the earliest deadline; the others come to their turn anyway."""
    engine = Stepped(max_running=1)
    now = torch.inf
    fast = [engine.ask([1] * 150, 8, client="fast", deadline=1e12)]
    others = [engine.ask([2 + n] * 100, 8, client=f"slow {n}", deadline=now) for n in range(3)]
    for _ in range(60):
        engine.turn()
        fast.append(engine.ask([1] * 150, 8, client="fast", deadline=1e12))
    assert [one.read().has_ended for one in others] == [True] * 3
    engine.finish()
    engine.close()


@pytest.mark.parametrize(
    ("mine", "others"),
    [
        ({}, {"client": "named"}),  # who gave no name went before all who did
        ({"client": "one", "user": "me"}, {"client": "another", "user": "somebody"}),
    ],
)
def test_turns_are_shared_between_users_and_those_without_a_name_are_one(
    mine: dict[str, str], others: dict[str, str]
) -> None:
    engine = Stepped(max_running=1)
    engine.ask([1], 30, **mine)
    engine.turn()
    other = engine.ask([2], 4, **others, deadline=1e13)
    engine.turn()
    again = engine.ask([3], 4, **(mine | ({"client": "two"} if mine else {})), deadline=1e12)
    while not other.read().has_ended:
        assert not again.read().ids
        engine.turn()
    engine.finish()
    assert again.reason == "length"
    engine.close()


def test_what_a_completion_takes_is_learned_from_those_that_post_processing_ended() -> None:
    engine = Stepped()
    expected = engine._turns.mean_ms
    for is_begun in (False, True):
        asked = engine.ask([1, 2], 200)
        while is_begun and not asked.read().ids:
            engine.turn()
        asked.job.is_cancelled = True
        engine.finish()
        assert asked.reason == "cancelled" and (engine._turns.mean_ms != expected) is is_begun
    engine.close()


def test_the_step_that_ends_a_completion_counts_for_what_it_takes() -> None:
    """What ends in its first step, as whoever types along a suggestion does, seemed to take nothing."""
    engine = Stepped()
    expected, asked = engine._turns.mean_ms, engine.ask([1, 2], 1)
    engine.finish()
    assert asked.reason == "length" and asked.job.engine_ms > 0 and engine._turns.mean_ms > 0.9 * expected
    engine.close()


def test_what_is_asked_ahead_leaves_places_for_who_types() -> None:
    engine = Stepped(max_running=4)
    for n in range(8):
        engine.ask([n], 50, priority="ahead")
    engine.turn()
    typed = engine.ask([9], 1)
    engine.turn()
    assert typed.reason == "length" and len(engine._turns.running) == 2
    engine.finish()
    engine.close()


def test_a_failing_forward_ends_its_batch_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    engine = Stepped()
    engine.load_adapter("a", Path("a"))
    same, other = [engine.ask([n], 8) for n in range(2)], engine.ask([3], 8, adapter="a")
    engine.turn()
    waiting = engine.ask([4], 8, deadline=0.0)
    fail_once(engine.base)
    engine.finish()
    assert [one.reason for one in same] == ["error", "error"] and "RuntimeError" in str(same[0].error)
    assert (other.reason, waiting.reason) == ("length", "deadline") and "a completion failed" in caplog.text
    assert len(engine._turns.pool.slots) == 1  # what the failed ones left can't be trusted
    again = engine.ask([0], 8)
    engine.finish()
    assert again.read().ids == plain(0, [0], 8) and again.job.run.cached_tokens == 0
    engine.close()


def test_a_drafter_that_fails_midway_costs_the_drafts_only(caplog: pytest.LogCaptureFixture) -> None:
    engine = Stepped()

    class Failing(Fixed):
        def propose(self, max_nodes: int, min_chance: float) -> Tree:
            if self._tree is None:
                raise IndexError("damaged")
            return super().propose(max_nodes, min_chance)

    asked = engine.ask([1], 8, draft=lambda _: Failing(Tree((3,), (-1,))))
    engine.finish()
    assert asked.read().ids == plain(0, [1], 8) and asked.reason == "length"
    assert "IndexError" in caplog.text
    engine.close()


@settings(max_examples=40, deadline=None)
@given(
    ms=st.lists(st.floats(0.01, 50), min_size=7, max_size=7), seeds=st.lists(st.integers(0, 99), min_size=1, max_size=6)
)
def test_whatever_rows_cost_drafts_leave_the_tokens_as_they_are(ms: list[float], seeds: list[int]) -> None:
    """What is drafted follows from what steps cost, and so differs from machine to machine."""
    rows = tuple(zip((1, 2, 4, 8, 16, 32), accumulate(ms[1:]), strict=True))
    engine = Stepped(costs=StepCosts(rows=rows, prefill=((64, ms[0]),), row_bytes=ROW_BYTES))
    asked = [engine.ask(random.Random(seed).choices(range(4), k=40), 24, draft=drafter()) for seed in seeds]
    engine.finish()
    assert [one.read().ids for one in asked] == [plain(0, one.request.ids, 24) for one in asked]
    engine.close()


def test_drafters_are_told_how_likely_a_guess_must_be_and_it_is_more_among_others() -> None:
    told = list[float]()

    class Told(Fixed):
        def propose(self, max_nodes: int, min_chance: float) -> Tree:
            told.append(min_chance)
            return Tree()

    engine = Stepped(costs=StepCosts(rows=((1, 1.0), (32, 4.1)), prefill=((64, 20.0),), row_bytes=ROW_BYTES))
    for num_others in (0, 3):
        for n in range(num_others):
            engine.ask([n], 2)
        engine.ask([9], 2, draft=lambda _: Told(Tree()), tenant=f"{num_others} others")
        engine.finish()
    alone, among_others = told
    assert alone == pytest.approx(0.1 / 0.8) and 2 * alone < among_others < 0.5
    engine.close()


def test_memory_for_keys_and_values_is_respected() -> None:
    engine = Stepped(kv_bytes=250 * ROW_BYTES, max_running=8)
    asked = [engine.ask([n, *[7] * 90], 9) for n in range(6)]
    most = 0
    while engine.turn():
        most = max(most, engine._turns.pool.num_bytes)
        assert len(engine._turns.running) <= 2
    assert most <= 250 * ROW_BYTES and all(one.reason == "length" for one in asked)
    large = engine.ask([1] * 400, 9)  # alone it may have more than that
    engine.finish()
    assert large.reason == "length" and engine._turns.pool.num_bytes <= 250 * ROW_BYTES
    engine.close()


def test_a_prompt_that_cant_be_computed_before_its_deadline_isnt_begun() -> None:
    engine = Stepped()
    hopeless = engine.ask([1] * 400, 8, deadline=_in_ms(engine, 10))
    fine = engine.ask([1] * 10, 8, deadline=_in_ms(engine, 10_000))
    engine.finish()
    assert (hopeless.reason, fine.reason) == ("deadline", "length")
    assert max(max(batch) for batch in engine.base.batches) <= 10
    engine.close()


def _in_ms(engine: Stepped, ms: float) -> float:
    return time.monotonic() + ms / 1e3


def test_a_full_queue_says_when_to_come_back_and_load_says_how_long_it_is() -> None:
    engine = Stepped(max_queue=2, max_running=2)
    load = engine.load()
    assert (load.num_running, load.num_waiting, load.wait_ms) == (0, 0, 0)
    asked = [engine.ask([n], 8, client="c" if n == 3 else None) for n in range(4)]
    engine.turn()
    load = engine.load()
    assert (load.num_running, load.num_waiting, engine.num_waiting) == (2, 2, 2) and load.wait_ms > 0
    with pytest.raises(EngineBusyError) as refused:
        engine.ask([5])
    assert refused.value.retry_after_s >= 1
    newer = engine.ask([6], 8, client="c")  # takes the place of the one it ends
    engine.ask([7] * 100, 0, priority="warm")  # what only fills the cache takes no place
    engine.finish()
    assert asked[3].reason == "superseded" and newer.reason == "length"
    engine.close()


def test_sampling_with_trees_follows_the_distribution() -> None:
    engine, ids, draws = Stepped(), [1, 2, 3], 1500
    firsts, seconds = [0] * VOCAB, [0] * VOCAB
    chances = (logits_after(0, ids) / 0.8).softmax(-1).tolist()
    likely = max(range(VOCAB), key=chances.__getitem__)
    tree = Tree((likely, (likely + 1) % VOCAB, 4, 5), (-1, -1, 0, 0))
    for seed in range(draws):
        asked = engine.ask(ids, 2, temperature=0.8, seed=seed, draft=lambda _: Fixed(tree))
        engine.finish()
        firsts[asked.read().ids[0]] += 1
        if asked.ids[0] == likely:
            seconds[asked.ids[1]] += 1
        assert asked.ids == plain(0, ids, 2, 0.8, seed)
    assert chi_square(firsts, chances) < 37.7  # 15 degrees of freedom, p = 0.001; the seeds make it repeatable
    assert chi_square(seconds, (logits_after(0, [*ids, likely]) / 0.8).softmax(-1).tolist()) < 37.7
    engine.close()


class Fixed:
    def __init__(self, tree: Tree) -> None:
        self._tree: Tree | None = tree

    def propose(self, max_nodes: int, min_chance: float) -> Tree:
        tree, self._tree = self._tree, None
        return tree or Tree()

    def extend(self, ids: Sequence[int]) -> None:
        pass
