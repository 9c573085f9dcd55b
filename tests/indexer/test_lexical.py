"""Words of code, and BM25 over them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from homespun_indexer.lexical import (
    AVERAGE_TERMS,
    K1,
    B,
    Postings,
    Rows,
    best,
    term_hash,
    terms,
    terms_of,
    weight_of,
    words,
)

VOCABULARY = ["parse", "config", "readFile", "read_file", "write", "x1", "HTTPServer", "größe", "a_b"]
DOCUMENTS = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join), min_size=1, max_size=20)
QUERIES = st.dictionaries(
    st.sampled_from([*VOCABULARY, "nowhere"]).map(str.lower), st.sampled_from([0.1, 0.5, 1.0, 2.0]), min_size=1
)


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
        ("a" * 100, ()),
    ],
)
def test_identifiers_are_kept_whole_and_in_parts(word: str, expected: tuple[str, ...]) -> None:
    assert terms_of(word)[: len(expected)] == expected


def test_words_leave_numbers_and_overlong_data_out() -> None:
    assert words("x = 12 + foo_bar(0x1F) " + "a" * 100) == ["foo_bar"]


def rows_of(postings: Postings, names: Sequence[str]) -> Rows:
    return postings.find(np.array([term_hash(name) for name in names], np.uint64))


def scores_of(postings: Postings, query: Mapping[str, float]) -> NDArray[np.float64]:
    rows = rows_of(postings, list(query))
    weights = np.array(list(query.values()), np.float32) * weight_of(
        postings.counts(rows, None), postings.num_documents
    )
    return postings.scores(rows, weights)


def plain_bm25(documents: Sequence[str], query: Mapping[str, float]) -> list[float]:
    """As in the textbook, but for the fixed average length."""
    counted = [Counter(terms(document)) for document in documents]
    scores = []
    for counts in counted:
        score = 0.0
        for term, weight in query.items():
            holders = sum(term in c for c in counted)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            norm = K1 * (1 - B + B * counts.total() / AVERAGE_TERMS)
            score += weight * idf * (K1 + 1) * counts[term] / (counts[term] + norm)
        scores.append(score)
    return scores


def largest_error(documents: Sequence[str], query: Mapping[str, float]) -> float:
    """Each contribution is rounded to a byte; one that would be 0 is 1."""
    most = math.log(1 + (len(documents) + 0.5) / 0.5)
    return sum(query.values()) * most * (K1 + 1) / 255 + 1e-4


@settings(max_examples=200)
@given(DOCUMENTS, QUERIES)
def test_scores_are_bm25_to_within_the_rounding(documents: list[str], query: dict[str, float]) -> None:
    found = scores_of(Postings(Postings.build(documents)), query)
    assert np.abs(found - plain_bm25(documents, query)).max() <= largest_error(documents, query)


def test_common_and_rare_terms_alike_are_scored_as_bm25() -> None:
    documents = [f"shared only_{i} " + f"often_{i % 4} " * (i % 7) + "filler " * (5 * i) for i in range(40)]
    arrays = Postings.build(documents)
    postings = Postings(arrays)
    query = {"shared": 1.0, "only_7": 0.5, "often_2": 2.0, "filler": 0.1}
    rows = rows_of(postings, list(query))
    assert (rows.common >= 0).tolist() == [True, False, True, True]
    assert (rows.rare >= 0).tolist() == [False, True, False, False]
    assert postings.counts(rows, None).tolist() == [40, 1, 9, 39]
    expected = plain_bm25(documents, query)
    assert np.abs(scores_of(postings, query) - expected).max() <= largest_error(documents, query)


SCORES = st.lists(st.sampled_from([0.0, 0.0004, 0.5, 0.5004, 0.502, 1.0, 2.0]), max_size=200)


@given(SCORES, st.integers(1, 50))
def test_the_best_are_those_of_the_sorted_scores(scores: list[float], limit: int) -> None:
    """With all that are as good as the last of them."""
    least = sorted(scores)[-limit] if len(scores) > limit else 0.0
    expected = [number for number, score in enumerate(scores) if score > 0 and score >= least - 0.001]
    assert best(np.array(scores), limit, 0.001).tolist() == expected


@pytest.fixture
def postings() -> Postings:
    return Postings(Postings.build(["parse the config", "parse parse", "write a report", ""]))


def test_documents_with_the_rarer_words_score_higher(postings: Postings) -> None:
    scores = scores_of(postings, {"parse": 1.0, "config": 1.0})
    assert scores.argmax() == 0
    assert scores[1] > 0
    assert scores[2] == scores[3] == 0


def test_weights_scale_and_unknown_terms_count_nothing(postings: Postings) -> None:
    assert np.allclose(scores_of(postings, {"parse": 2.0}), 2 * scores_of(postings, {"parse": 1.0}))
    assert not scores_of(postings, {"nowhere": 1.0}).any()


@pytest.mark.parametrize("documents", [[], ["", ""]])
def test_no_words_make_postings_in_which_nothing_is_found(documents: list[str]) -> None:
    postings = Postings(Postings.build(documents))
    rows = rows_of(postings, ["parse"])
    assert postings.num_documents == len(documents)
    assert postings.counts(rows, None).tolist() == [0]
    assert not postings.scores(rows, np.ones(1, np.float32)).any()


@given(DOCUMENTS, st.data())
def test_dead_documents_are_not_counted(documents: list[str], data: st.DataObject) -> None:
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))), np.bool_)
    postings = Postings(Postings.build(documents))
    rows = rows_of(postings, [name.lower() for name in VOCABULARY])
    expected = [
        sum(name.lower() in terms(d) for d, lives in zip(documents, alive, strict=True) if lives) for name in VOCABULARY
    ]
    assert postings.counts(rows, alive).tolist() == expected
    everything = np.ones(len(documents), np.bool_)
    assert postings.counts(rows, everything).tolist() == postings.counts(rows, None).tolist()


@given(DOCUMENTS, DOCUMENTS, QUERIES)
def test_several_postings_with_shared_weights_score_as_one(
    first: list[str], second: list[str], query: dict[str, float]
) -> None:
    parts = [Postings(Postings.build(documents)) for documents in (first, second)]
    rows = [rows_of(part, list(query)) for part in parts]
    counts = sum((part.counts(row, None) for part, row in zip(parts, rows, strict=True)), np.zeros(len(query), int))
    weights = np.array(list(query.values()), np.float32) * weight_of(counts, len(first) + len(second))
    found = np.concatenate([part.scores(row, weights) for part, row in zip(parts, rows, strict=True)])
    assert np.allclose(found, scores_of(Postings(Postings.build(first + second)), query), atol=1e-5)
