from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from homespun_server.engine.kv import SlotLayer, SlotPool


def _rows(start: int, end: int) -> torch.Tensor:
    return torch.arange(start, end, dtype=torch.float32).reshape(1, 1, -1, 1).expand(1, 2, -1, 3)


@torch.inference_mode()
def _fill(pool: SlotPool, weights: object, ids: list[int]) -> int:
    """Use a slot as a request would; returns how many ids it held already."""
    slot = pool.acquire(weights, ids)
    held = len(slot.ids)
    for layer in slot.layers:
        rows = torch.tensor(ids[held:], dtype=torch.float32).reshape(1, 1, -1, 1)
        layer.update(rows, rows)
    slot.ids += ids[held:]
    return held


def _held(pool: SlotPool) -> list[list[int]]:
    """What the slots hold, read back from their first layer's keys."""
    held = []
    for slot in pool.slots:
        rows = slot.layers[0]._rows
        held.append([] if rows is None else [int(v) for v in rows[0][0, 0, : slot.layers[0].length, 0]])
    return held


def test_a_layer_returns_every_row_it_was_given_however_it_grew() -> None:
    layer = SlotLayer()
    for start, end in ((0, 3), (3, 4), (4, 700), (700, 701)):
        keys, values = layer.update(_rows(start, end), -_rows(start, end))
    assert torch.equal(keys, _rows(0, 701)) and torch.equal(values, -_rows(0, 701))


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 3), min_size=1, max_size=40)), max_size=12))
def test_a_slot_never_holds_rows_of_other_ids_or_other_weights(requests: list[tuple[int, list[int]]]) -> None:
    pool, weights = SlotPool(2, 1), (object(), object())
    for which, ids in requests:
        _fill(pool, weights[which], ids)
        assert _held(pool) == [slot.ids for slot in pool.slots]
        assert any(slot.weights is weights[which] and slot.ids == ids for slot in pool.slots)


def test_the_last_id_is_always_computed_again_for_its_logits() -> None:
    pool, weights = SlotPool(2, 1), object()
    _fill(pool, weights, [1, 2, 3])
    assert _fill(pool, weights, [1, 2, 3]) == 2


def test_other_weights_find_nothing_even_for_equal_ids() -> None:
    pool = SlotPool(2, 1)
    _fill(pool, "base", [1, 2, 3, 4])
    assert _fill(pool, "adapter", [1, 2, 3, 4]) == 0
    assert _fill(pool, "base", [1, 2, 3, 4]) == 3


def test_two_files_with_a_common_header_dont_evict_each_other() -> None:
    pool, weights, header = SlotPool(2, 1), object(), list(range(20))
    first, second = [*header, *[50] * 60], [*header, *[60] * 60]
    assert _fill(pool, weights, first) == 0
    assert _fill(pool, weights, second) == 20  # forked: the header's rows were copied
    assert _fill(pool, weights, [*first, 1]) == 80
    assert _fill(pool, weights, [*second, 1]) == 80


def test_dropping_weights_forgets_their_rows_only() -> None:
    pool = SlotPool(3, 1)
    _fill(pool, "base", [1, 2, 3])
    _fill(pool, "adapter", [1, 2, 3])
    pool.drop("adapter")
    assert _fill(pool, "base", [1, 2, 3]) == 2
    assert _fill(pool, "adapter", [1, 2, 3]) == 0
