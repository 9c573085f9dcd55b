"""Prompts that are computed in advance, when nothing else is to be done."""

from __future__ import annotations

import weakref

from tests.server.engine.hash_decoder import HashSource, plain
from tests.server.engine.stepped import Stepped


def test_filling_the_cache_never_delays_others_by_more_than_a_chunk() -> None:
    engine = Stepped()
    warm = engine.ask([3] * 300, 0, priority="warm")
    engine.turn()
    engine.turn()
    assert engine.base.batches == [[64], [64]]
    typed = engine.ask([3] * 300, 6)
    engine.turn()
    assert engine.base.batches[-1] == [64] and typed.job.run.cached_tokens == 128  # taken over, not computed again
    while not typed.read().has_ended:
        assert not warm.read().has_ended
        engine.turn()
    engine.finish()
    assert warm.reason == "length" and warm.ids == [] and warm.job.run.cached_tokens == 300
    engine.close()


def test_what_is_paused_keeps_no_rows_that_the_pool_gives_up() -> None:
    engine = Stepped()
    warm = engine.ask([3] * 300, 0, priority="warm")
    engine.turn()
    assert warm.job.slot is not None
    kept = weakref.ref(warm.job.slot.kv)
    typed = engine.ask([4] * 10, 2)
    engine.turn()
    assert not warm.job.is_running and kept() is not None
    engine._turns.pool.shrink(1 << 40)
    assert kept() is None
    engine.finish()
    assert (warm.reason, typed.reason) == ("length", "length")
    engine.close()


def test_no_prompt_is_computed_in_advance_where_nothing_of_it_can_be_kept() -> None:
    engine = Stepped(HashSource(can_crop=False))
    warm = engine.ask([3] * 300, 0, priority="warm")
    engine.finish()
    assert warm.reason == "length" and warm.job.run.cached_tokens == 0 and not engine.base.batches
    engine.close()


def test_a_prompt_that_is_filled_in_advance_costs_its_last_token() -> None:
    engine, ids = Stepped(), list(range(16)) * 6
    engine.ask(ids, 0, priority="warm")
    engine.finish()
    asked = engine.ask(ids, 4)
    engine.finish()
    assert asked.job.run.cached_tokens == len(ids) - 1 and asked.read().ids == plain(0, ids, 4)
    engine.close()
