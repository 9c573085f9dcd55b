"""Places in a text while it is edited."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.edits import Edit, Span, between

TEXTS = st.text("ab\n", max_size=12)


def applied(text: str, edit: Edit) -> str:
    return text[: edit.start] + edit.added + text[edit.end :]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(start=0, end=1, added="XYZ"), "cdef"),
        (Edit(start=8, end=9, added=""), "cdef"),
        (Edit(start=2, end=2, added="X"), "cdef"),
        (Edit(start=6, end=6, added="X"), "cdef"),
        (Edit(start=4, end=4, added="X"), "cdXef"),
        (Edit(start=3, end=5, added=""), "cf"),
        (Edit(start=1, end=3, added="X"), "Xdef"),
        (Edit(start=5, end=8, added="X"), "cdeX"),
        (Edit(start=0, end=10, added="new"), "new"),
        (Edit(start=2, end=6, added=""), ""),
    ],
)
def test_a_span_follows_its_text(edit: Edit, expected: str) -> None:
    span = Span(2, 6).after(edit)
    assert applied("abcdefghij", edit)[span.start : span.end] == expected


def test_what_was_deleted_and_put_back_is_followed_again() -> None:
    """Undo and redo of an accepted suggestion."""
    span = Span(2, 6).after(Edit(start=2, end=6, added="")).after(Edit(start=2, end=2, added="cdef"))
    assert span == Span(2, 6)


@given(st.data(), TEXTS, TEXTS.filter(bool), TEXTS)
def test_edits_elsewhere_never_change_what_a_span_holds(data: st.DataObject, head: str, text: str, tail: str) -> None:
    whole, span = head + text + tail, Span(len(head), len(head) + len(text))
    for _ in range(4):
        where = data.draw(st.sampled_from([(0, span.start), (span.end, len(whole))]))
        start, end = sorted(data.draw(st.tuples(st.integers(*where), st.integers(*where))))
        edit = Edit(start=start, end=end, added=data.draw(TEXTS))
        whole, span = applied(whole, edit), span.after(edit)
        assert whole[span.start : span.end] == text


@given(st.data(), TEXTS)
def test_a_span_stays_within_the_text_whatever_is_edited(data: st.DataObject, text: str) -> None:
    span = Span(0, len(text))
    for _ in range(4):
        start, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        edit = Edit(start=start, end=end, added=data.draw(TEXTS))
        text, span = applied(text, edit), span.after(edit)
        assert 0 <= span.start <= span.end <= len(text)


@given(TEXTS, TEXTS)
def test_between_two_texts_lies_one_edit_with_nothing_in_common_at_its_ends(before: str, after: str) -> None:
    edit = between(before, after)
    removed = before[edit.start : edit.end]
    assert applied(before, edit) == after
    assert not (removed and edit.added and (removed[0] == edit.added[0] or removed[-1] == edit.added[-1]))
