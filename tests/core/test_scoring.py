import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.scoring import edit_similarity, ending, exact_match, identifier_f1, levenshtein

text = st.text(alphabet="abc \n", max_size=20)


def test_levenshtein_counts_single_edits() -> None:
    assert [levenshtein(a, b) for a, b in [("", ""), ("a", ""), ("kitten", "sitting"), ("flaw", "lawn")]] == [
        0,
        1,
        3,
        2,
    ]


@given(text, text)
def test_distance_is_symmetric_and_bounded(a: str, b: str) -> None:
    assert levenshtein(a, b) == levenshtein(b, a) <= max(len(a), len(b))


@given(text, text, text)
def test_distance_obeys_the_triangle_inequality(a: str, b: str, c: str) -> None:
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


def test_trailing_blanks_do_not_count() -> None:
    assert exact_match("return x  \n", "return x")
    assert not exact_match(" return x", "return x")
    assert edit_similarity("", "\n") == 1.0


@pytest.mark.parametrize(
    ("predicted", "written", "f1"),
    [
        ("a.b(c)", "a.b(c)", 1.0),
        ("a.b(x)", "a.b(c)", 2 / 3),
        ("", "a", 0.0),
        ("1 + 2", "(3)", 1.0),
        ("a a", "a", 2 / 3),
        ("user_2", "user_1", 0.0),
    ],
)
def test_names_are_compared_as_often_as_they_stand_there(predicted: str, written: str, f1: float) -> None:
    assert identifier_f1(predicted, written) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("predicted", "written", "where"),
    [
        ("f(x)", "f(x)", "right"),
        ("f(x) ", "f(x)", "right"),
        ("f(", "f(x)", "early"),
        ("", "f(x)", None),
        ("", "", "right"),
        ("f(x).y", "f(x)", "late"),
        ("g(x)", "f(x)", None),
    ],
)
def test_only_what_was_right_so_far_can_end_in_the_wrong_place(predicted: str, written: str, where: str | None) -> None:
    assert ending(predicted, written) == where
