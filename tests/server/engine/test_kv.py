from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.fim import FAMILIES, resolve_family
from homespun_core.prompt import PromptBuilder, PromptLimits
from homespun_core.types import Snippet
from homespun_server.engine.decoders.protocol import Segment
from homespun_server.engine.kv import SlotPool, common_start
from tests.fakes import ByteTokenizer
from tests.server.engine.hash_decoder import ROW_BYTES, HashDecoder, HashKv

ALL = 1 << 30


def _fill(pool: SlotPool, weights: HashDecoder, ids: list[int], tenant: str = "") -> int:
    """Use a slot as a request would; returns how many ids it held already."""
    slot = pool.acquire(weights, tenant, ids, 1).slot
    held = len(slot.ids)
    weights.forward([Segment(kv=slot.kv, ids=ids[held:])])
    slot.kv.keep(range(len(ids) - held))
    slot.ids += ids[held:]
    pool.release(slot, [])
    return held


def _held(pool: SlotPool) -> list[list[int]]:
    return [cast(HashKv, slot.kv).ids for slot in pool.slots]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from("xy"), st.lists(st.integers(0, 3), min_size=1, max_size=40)),
        max_size=12,
    )
)
def test_a_slot_never_holds_rows_of_other_ids_other_weights_or_another_tenant(
    requests: list[tuple[int, str, list[int]]],
) -> None:
    pool, weights = SlotPool(100 * ROW_BYTES), (HashDecoder(0), HashDecoder(1))
    for which, tenant, ids in requests:
        _fill(pool, weights[which], ids, tenant)
        assert _held(pool) == [slot.ids for slot in pool.slots]
        assert all(cast(HashKv, slot.kv).decoder is slot.weights for slot in pool.slots)
        assert any(s.weights is weights[which] and s.tenant == tenant and s.ids == ids for s in pool.slots)


def test_the_last_id_is_always_computed_again_for_its_logits() -> None:
    pool, weights = SlotPool(ALL), HashDecoder(0)
    _fill(pool, weights, [1, 2, 3])
    assert _fill(pool, weights, [1, 2, 3]) == 2


def test_other_weights_and_other_tenants_find_nothing_even_for_equal_ids() -> None:
    pool, base, adapter = SlotPool(ALL), HashDecoder(0), HashDecoder(1)
    _fill(pool, base, [1, 2, 3, 4])
    assert _fill(pool, adapter, [1, 2, 3, 4]) == 0
    assert _fill(pool, base, [1, 2, 3, 4], "another") == 0
    assert _fill(pool, base, [1, 2, 3, 4]) == 3


def test_two_files_with_a_common_header_dont_evict_each_other() -> None:
    header = [1] * 20
    first, second = [*header, *[5] * 60], [*header, *[6] * 60]
    pool, weights = SlotPool(170 * ROW_BYTES), HashDecoder(0)
    assert _fill(pool, weights, first) == 0
    assert _fill(pool, weights, second) == 20  # forked: the header's rows were copied
    assert _fill(pool, weights, [*first, 1]) == 80
    assert _fill(pool, weights, [*second, 1]) == 80


def test_what_was_cut_out_is_still_there_when_it_comes_back() -> None:
    pool, weights, ids = SlotPool(ALL), HashDecoder(0), [n % 16 for n in range(400)]
    _fill(pool, weights, ids)
    assert _fill(pool, weights, ids[:250]) == 249
    assert _fill(pool, weights, ids) == 399


def test_typing_against_a_suggestion_takes_the_slot_over() -> None:
    pool, weights, ids = SlotPool(ALL), HashDecoder(0), [1] * 200
    for number in range(5):
        _fill(pool, weights, [*ids, *[2 + number] * 64])
    assert len(pool.slots) == 1


@pytest.mark.parametrize("num_snippets", [0, 3])
def test_typing_back_and_forth_over_an_anchor_computes_what_was_typed(num_snippets: int) -> None:
    """With snippets, two windows of a file have more than half of their prompt in common; one took the other's rows
    over, and each line that was typed, deleted or brought back there cost the whole window."""
    pool, weights = SlotPool(ALL), HashDecoder(0)
    lines = [f"line_{n} = {n}\n" for n in range(300)]
    windows = [_prompt("".join(lines[:n]), num_snippets) for n in range(100, 120)]
    moved = next(n for n, (a, b) in enumerate(pairwise(windows), 1) if common_start(a, b) < len(a))
    typed = [windows[moved - 1], windows[moved]]
    computed = [len(ids) - _put(pool, weights, ids) for ids in typed * 4]
    assert computed[1] > 100  # the window moved
    assert max(computed[2:]) <= len(lines[0]) + 4


def _prompt(prefix: str, num_snippets: int) -> list[int]:
    """A token a byte."""
    found = [Snippet(path="b.py", start_line=1, text="x" * 100, score=1.0, source="usage")] * num_snippets
    tokenizer = ByteTokenizer(FAMILIES[0].control_tokens)
    fim, limits = resolve_family(tokenizer, {}, forced="homespun"), PromptLimits(max_tokens=960)
    builder = PromptBuilder(tokenizer=tokenizer, format=fim, limits=limits)
    return [*builder.build(prefix=prefix, suffix="rest = 1\n" * 50, path="a.py", snippets=found).ids]


def _put(pool: SlotPool, weights: HashDecoder, ids: list[int]) -> int:
    """As `_fill`, of any vocabulary and length: nothing is computed."""
    slot = pool.acquire(weights, "", ids, 1).slot
    held = len(slot.ids)
    cast(HashKv, slot.kv).ids += ids[held:]
    slot.ids += ids[held:]
    pool.release(slot, [])
    return held


def test_what_somebody_holds_is_copied_not_taken() -> None:
    pool, weights, ids = SlotPool(ALL), HashDecoder(0), [1] * 50
    _fill(pool, weights, ids)
    held = pool.acquire(weights, "", [*ids, 2], 1).slot
    other = pool.acquire(weights, "", [*ids, 3], 1).slot
    assert other is not held and other.ids == held.ids == ids
    pool.release(held, [])
    assert pool.acquire(weights, "", [*ids, 4], 1).slot is held


def test_the_least_recently_used_make_room_and_what_is_held_stays() -> None:
    pool, weights = SlotPool(100 * ROW_BYTES), HashDecoder(0)
    for n in range(3):
        _fill(pool, weights, [n] * 30)
    _fill(pool, weights, [0] * 31)
    held = pool.acquire(weights, "", [1] * 31, 1).slot
    _fill(pool, weights, [3] * 30)
    assert sorted(ids[0] for ids in _held(pool)) == [0, 1, 3]
    pool.shrink(ALL)
    assert pool.slots == [held]


def test_what_followed_is_remembered_where_a_prompt_ends_within_it() -> None:
    pool, weights, ids = SlotPool(ALL), HashDecoder(0), [1, 2, 3, 4, 5]
    for asked, remembered in (([*ids, 6], [7, 8]), (ids, [6, 7, 8]), (ids[:2], [3, 4, 5, 6, 7, 8]), ([*ids, 9], [])):
        _fill(pool, weights, ids)
        slot = pool.acquire(weights, "", [*ids, 1], 1).slot
        pool.release(slot, [6, 7, 8])
        lease = pool.acquire(weights, "", asked, 1)
        assert lease.remembered == remembered
        pool.forget(lease.slot)


def test_dropping_weights_forgets_their_rows_only() -> None:
    pool, base, adapter = SlotPool(ALL), HashDecoder(0), HashDecoder(1)
    _fill(pool, base, [1, 2, 3])
    _fill(pool, adapter, [1, 2, 3])
    pool.drop(adapter)
    assert _fill(pool, base, [1, 2, 3]) == 2
    assert _fill(pool, adapter, [1, 2, 3]) == 0
