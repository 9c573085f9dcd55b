from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.errors import ModelError, StorageError
from homespun_trainer.pretrain import shards
from homespun_trainer.pretrain.samples import PHASES
from homespun_trainer.pretrain.shards import Shards, held_out, pad_id, row_order
from tests.fakes import ByteTokenizer
from tests.trainer.pretrain.rows import TOKENIZER, documents, make_rows


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 60), st.integers(0, 5))
def test_the_order_of_rows_goes_on_anywhere(num_rows: int, first: int, more: int, seed: int) -> None:
    whole = row_order(num_rows, seed=seed, part="first", first=0, count=first + more + 1)
    part = row_order(num_rows, seed=seed, part="first", first=first, count=more + 1)
    assert part.tolist() == whole[first:].tolist()
    for start in range(0, len(whole) - num_rows + 1, num_rows):
        assert sorted(whole[start : start + num_rows].tolist()) == list(range(num_rows))


def test_parts_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(row_order(50, seed=seed, part=part, first=0, count=50).tolist())
        for seed in (0, 1)
        for part in ("first", "second")
    }
    assert len(orders) == 4


def test_rows_are_read_back_as_they_were_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_SHARD_BYTES", 2_048)  # several files a part
    rows = make_rows(tmp_path, passes=40.0)
    for phase in PHASES:
        count = rows.num_rows(phase.name)
        assert len(list(rows.path.glob(f"{phase.name}-0*.bin"))) > 1
        taken = rows.take(phase.name, np.arange(count)[::-1].copy())
        assert taken.shape == (count, phase.row_tokens)
        assert int((taken != rows.pad).sum()) == rows.num_tokens(phase.name)
        ends = int((taken == TOKENIZER.control_id("<|endoftext|>")).sum())
        assert ends > count
    assert rows.info["parts"]["first"]["kinds"].keys() == {"plain", "homespun", "homespun-psm"}


def test_held_out_files_are_in_no_training_row(tmp_path: Path) -> None:
    rows = make_rows(tmp_path)
    assert [file.document for file in rows.held_out_files()] == list(documents(3, first=100))
    for phase in PHASES:
        text = TOKENIZER.spell(rows.take(phase.name, np.arange(rows.num_rows(phase.name))).ravel().tolist())
        looks = TOKENIZER.spell(
            rows.take(held_out(phase.name), np.arange(rows.num_rows(held_out(phase.name)))).ravel().tolist()
        )
        assert "load_100" not in text and "part10" in looks


def test_equal_inputs_are_prepared_once(tmp_path: Path) -> None:
    first = make_rows(tmp_path)
    before = first.path.stat().st_mtime_ns
    assert make_rows(tmp_path).path.stat().st_mtime_ns == before
    assert make_rows(tmp_path, seed=1).path != first.path


def test_damaged_rows_are_refused(tmp_path: Path) -> None:
    path = next(make_rows(tmp_path).path.glob("first-*.bin"))
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        Shards.open(tmp_path / "rows")


def test_nothing_prepared_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="homespun pretrain prepare"):
        Shards.open(tmp_path)


def test_a_tokenizer_without_padding_is_refused() -> None:
    with pytest.raises(ModelError, match="fim_pad"):
        pad_id(ByteTokenizer(("<|endoftext|>",)))
