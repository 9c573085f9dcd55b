"""How much of an accepted text counts as kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.kept import kept_characters


@pytest.mark.parametrize(
    ("accepted", "now", "kept"),
    [
        ("total + tax", "total + tax", 11),
        ("total + tax", "", 0),
        ("total + tax", "something(else)", 0),
        ("total + tax", "total - tax", 10),  # 8 of 9 characters that aren't blank
        ("total + tax", "total", 6),
        ("totals", "total", 0),  # another name is another name
        ("a(b, c)", "a(\n    b,\n    c\n)", 7),  # a formatter takes nothing away
        ("a b", "a x b", 3),
        ("a b", "b a", 2),
        ("  \n", "", 0),
        ("x" * 10, "y" * 30_000, 0),
    ],
)
def test_kept_characters(accepted: str, now: str, kept: int) -> None:
    assert kept_characters(accepted, now) == kept


CODE = st.text("ab(, \n", max_size=20)


@given(CODE, CODE)
def test_never_more_is_kept_than_was_accepted(accepted: str, now: str) -> None:
    assert 0 <= kept_characters(accepted, now) <= len(accepted)


@given(CODE, CODE)
def test_adding_text_takes_nothing_away(accepted: str, added: str) -> None:
    if accepted.strip():
        assert kept_characters(accepted, f"{accepted} {added}") == len(accepted)
