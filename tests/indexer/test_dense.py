"""Exact search over vectors: what is nearest, what is dead, what survives as bytes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from homespun_indexer.dense import DenseIndex, Vectors


def unit_vectors(num_rows: int, dimensions: int = 16) -> Vectors:
    vectors = np.random.default_rng(0).standard_normal((num_rows, dimensions)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def marked(num_rows: int, rows: list[int]) -> NDArray[np.bool_]:
    mask = np.zeros(num_rows, np.bool_)
    mask[rows] = True
    return mask


def test_the_nearest_come_first_and_all_of_them_when_asked_for_more_than_there_are() -> None:
    vectors = unit_vectors(20)
    index = DenseIndex.build(vectors)
    found = index.search(vectors[7], 100)
    assert found[0][1] == pytest.approx(1, abs=1e-3)
    assert [row for row, _ in found] == np.argsort(-(vectors @ vectors[7])).tolist()


def test_equal_vectors_come_in_the_order_of_their_rows() -> None:
    vectors = np.repeat(unit_vectors(1), 5, axis=0)
    assert [row for row, _ in DenseIndex.build(vectors).search(vectors[0], 5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("num_rows", [7, 8, 9, 500])
def test_dead_rows_are_passed_over_and_take_no_places(num_rows: int) -> None:
    vectors = unit_vectors(num_rows)
    index = DenseIndex.build(vectors)
    order = [row for row, _ in index.search(vectors[3], num_rows)]
    dead = marked(num_rows, [*order[:2], num_rows - 1])
    found = [row for row, _ in index.search(vectors[3], 3, dead)]
    assert found == [row for row in order if not dead[row]][:3]


def test_one_search_with_dead_rows_changes_nothing_for_the_next() -> None:
    vectors = unit_vectors(30)
    index = DenseIndex.build(vectors)
    before = index.search(vectors[0], 5)
    assert index.search(vectors[0], 5, marked(30, [0]))[0][0] != 0
    assert index.search(vectors[0], 5) == before
    assert index.search(vectors[0], 5, marked(30, [])) == before


def test_nothing_is_found_where_all_is_dead_or_nothing_is_there() -> None:
    vectors = unit_vectors(4)
    assert DenseIndex.build(vectors).search(vectors[0], 3, marked(4, [0, 1, 2, 3])) == []
    assert DenseIndex.build(vectors[:0]).search(vectors[0], 3) == []
    assert DenseIndex.build(vectors).search(vectors[0], 0) == []


@pytest.mark.parametrize("num_rows", [0, 1, 50])
def test_it_comes_back_from_bytes_as_it_was(num_rows: int) -> None:
    vectors = unit_vectors(max(1, num_rows))
    index = DenseIndex.build(vectors[:num_rows])
    loaded = DenseIndex.from_bytes(index.to_bytes())
    assert (loaded.num_rows, loaded.dimensions) == (num_rows, 16)
    assert loaded.search(vectors[0], 5) == index.search(vectors[0], 5)
    assert loaded.to_bytes() == index.to_bytes()
