from hypothesis import given
from hypothesis import strategies as st

from homespun_core.scoring import edit_similarity, exact_match, levenshtein

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
