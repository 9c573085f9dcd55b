"""What the changes of an editor make of a document."""

from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from homespun_lsp.documents import Documents, Step

LINES = 3_000
TEXT = "".join(f"name{i} = name\r\n" for i in range(LINES))


def opened(text: str) -> Documents:
    documents = Documents()
    documents.open(types.TextDocumentItem(uri="u", language_id="python", version=1, text=text))
    return documents


def change(line: int, start: int, end: int, text: str) -> types.TextDocumentContentChangePartial:
    where = types.Range(start=types.Position(line, start), end=types.Position(line, end))
    return types.TextDocumentContentChangePartial(range=where, text=text)


def whole(steps: list[Step], before: str) -> str:
    for step in steps:
        before = before[: step.edit.start] + step.edit.added + before[step.edit.end :]
        assert step.text == before
    return before


def test_thousands_of_changes_at_once_are_one_step() -> None:
    """One text for each of them would be gigabytes of a large file."""
    documents = opened(TEXT)
    steps = list(documents.change("u", 2, [change(line, 0, 4, "other") for line in reversed(range(LINES))]))
    document = documents.get("u")
    assert len(steps) == 1 and document and document.version == 2
    assert document.text == whole(steps, TEXT) == TEXT.replace("name", "other").replace("= other", "= name")


places = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 6), st.integers(0, 3), st.sampled_from(["", "x", "\n"])))


@given(places, st.booleans())
def test_many_changes_lead_where_the_same_ones_lead_one_by_one(
    where: list[tuple[int, int, int, str]], from_the_end: bool
) -> None:
    text = "ab\r\n\U0001f600c\nlonger\n" * 3
    wanted = [change(line, start, start + length, added) for line, start, length, added in where * 20]
    if from_the_end:
        wanted.sort(key=lambda c: (c.range.start.line, c.range.start.character), reverse=True)
    one_by_one, at_once = opened(text), opened(text)
    for single in wanted:
        one_by_one.change("u", 2, [single])
    steps = list(at_once.change("u", 2, wanted))
    expected, found = one_by_one.get("u"), at_once.get("u")
    assert expected and found and found.text == expected.text == whole(steps, text)
