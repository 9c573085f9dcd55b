"""Words of code, and BM25 over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from homespun_indexer.lexical import LexicalIndex, terms, terms_of, words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("total", ("total",)),
        ("getUserName", ("getusername", "get", "user", "name")),
        ("HTTPServer", ("httpserver", "http", "server")),
        ("snake_case_name", ("snake_case_name", "snake", "case", "name")),
        ("__init__", ("__init__",)),
        ("MAX_SIZE", ("max_size", "max", "size")),
        ("größeMessen", ("größemessen",)),
        ("x1", ("x1",)),
    ],
)
def test_identifiers_are_kept_whole_and_in_parts(word: str, expected: tuple[str, ...]) -> None:
    assert terms_of(word)[: len(expected)] == expected


def test_words_leave_numbers_and_overlong_data_out() -> None:
    assert words("x = 12 + foo_bar(0x1F) " + "a" * 100) == ["foo_bar"]


@pytest.fixture
def index() -> LexicalIndex:
    return LexicalIndex.build([terms(t) for t in ("parse the config", "parse parse", "write a report", "")])


def test_documents_with_the_rarer_words_score_higher(index: LexicalIndex) -> None:
    scores = index.scores({"parse": 1.0, "config": 1.0})
    assert scores.argmax() == 0
    assert scores[1] > 0
    assert scores[2] == scores[3] == 0


def test_weights_scale_and_unknown_terms_count_nothing(index: LexicalIndex) -> None:
    assert np.allclose(index.scores({"parse": 2.0}), 2 * index.scores({"parse": 1.0}))
    assert not index.scores({"nowhere": 1.0}).any()


def test_rarity_is_the_share_of_documents_without_the_term(index: LexicalIndex) -> None:
    assert index.rarity("parse") == 0.5
    assert index.rarity("nowhere") == 1.0


def test_it_comes_back_from_disk_as_it_was(index: LexicalIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "l")
    query = {"parse": 1.0, "report": 0.5}
    assert np.array_equal(LexicalIndex.load(tmp_path / "l").scores(query), index.scores(query))
