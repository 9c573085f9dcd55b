"""What of earlier suggestions still fits, checked against what "fits" means: the text around it is the same."""

from hypothesis import given
from hypothesis import strategies as st

from homespun_lsp.suggestions import Memory, Suggestion, typed_since

code = st.text(alphabet="ab(\n 😀", max_size=12)
line_end = st.sampled_from(["\n", "\r\n"])


def suggestion(head: str, tail: str, completion: str) -> Suggestion:
    return Suggestion(text=head + tail, offset=len(head), completion=completion, made="cmpl-1")


@given(head=code, tail=code, completion=code, data=st.data(), end=line_end)
def test_what_is_left_after_typing_along_is_the_rest_of_the_suggestion(
    head: str, tail: str, completion: str, data: st.DataObject, end: str
) -> None:
    count = data.draw(st.integers(0, len(completion)))
    typed = completion[:count].replace("\n", end)
    rest = suggestion(head, tail, completion).at(head + typed + tail, len(head + typed))
    if count == len(completion):
        assert rest is None
    else:
        assert rest and rest.completion == completion[count:] and rest.made == "cmpl-1"


@given(head=code, tail=code, completion=code, now=code, cursor=st.integers(0, 12))
def test_what_is_recalled_always_leads_to_the_text_that_was_suggested(
    head: str, tail: str, completion: str, now: str, cursor: int
) -> None:
    """Never stale: whatever was edited in between, accepting it gives the text that accepting it at first had given."""
    cursor = min(cursor, len(now))
    rest = suggestion(head, tail, completion).at(now, cursor)
    if rest is not None:
        assert now[:cursor] + rest.completion + now[cursor:] == head + completion + tail
        assert rest.completion and cursor >= len(head)


@given(head=code, tail=code, typed=code, other=code)
def test_what_was_typed_is_found_wherever_the_text_around_it_is_the_same(
    head: str, tail: str, typed: str, other: str
) -> None:
    assert typed_since(head + tail, len(head), head + typed + tail, len(head + typed)) == typed
    if other != tail:
        assert typed_since(head + tail, len(head), head + typed + other, len(head + typed)) is None


@given(st.lists(st.tuples(code, code, code), max_size=8), code, st.integers(0, 12))
def test_the_newest_that_fits_is_recalled(made: list[tuple[str, str, str]], now: str, cursor: int) -> None:
    cursor, memory = min(cursor, len(now)), Memory()
    suggestions = [suggestion(*one) for one in made]
    for one in suggestions:
        memory.add(one)
    fitting = [rest for one in suggestions if (rest := one.at(now, cursor))]
    assert memory.find(now, cursor) == (fitting[-1] if fitting else None)


def test_a_suggestion_does_not_outlive_an_edit_below_it_and_comes_back_when_that_is_undone() -> None:
    memory = Memory()
    memory.add(suggestion("x = ", "\ny = 1\n", "foo()"))
    assert memory.find("x = f\ny = 2\n", 5) is None
    assert memory.find("x = f\ny = 1\n", 5)


def test_memory_is_bounded_by_number_and_by_size() -> None:
    memory = Memory()
    for number in range(100):
        memory.add(suggestion(f"{number} = ", "", "x"))
    assert len(memory) == 40 and memory.find("99 = ", 5) and not memory.find("9 = ", 4)
    memory.add(suggestion("x" * 3_000_000, "", "y"))
    assert len(memory) == 1
