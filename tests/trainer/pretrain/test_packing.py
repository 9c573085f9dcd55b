from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homespun_trainer.pretrain.packing import pack


@given(st.lists(st.integers(1, 50), max_size=200))
def test_every_sample_stands_in_one_row_and_no_row_overflows(lengths: list[int]) -> None:
    rows = pack(lengths, 50)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[n] for n in row) <= 50 for row in rows)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200))
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    used = sorted(sum(lengths[n] for n in row) for row in pack(lengths, 50))
    assert len(used) < 2 or used[0] + used[1] > 50
