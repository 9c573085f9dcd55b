import pytest

from homespun_lsp.asking import (
    MAX_FILE_CHARS,
    File,
    ahead_of,
    is_key,
    is_language_off,
    is_typed_at_several_cursors,
    wants_block,
    why_not,
)
from homespun_lsp.context import Place
from homespun_lsp.documents import Document, Step
from homespun_lsp.edits import Edit

FILE = File()


def place(marked: str, language: str = "python") -> Place:
    before, _, after = marked.partition("|")
    document = Document(uri="file:///a", language=language, version=1, text=before + after, encoding="utf-16")
    return Place(document=document, text=document.text, offset=len(before))


@pytest.mark.parametrize(
    ("marked", "reason"),
    [
        ("return |", None),
        ("call(|)", None),
        ('call(["|"])]);,  ', None),
        ("call(|) if x else yes\nnext", "text to the right"),
        ("call(|) if x\nthis line does not count", None),
        ("ret|urn", "middle of a word"),
        ("x = |value", "middle of a word"),
        ("call(|)\r\nthis line does not count", None),
        ("", None),
        ("call(1)|", "after a closer"),
        ("if call(1) |\nnext", None),
        ("call(1)|\r\nnext", "after a closer"),
        ("f(call(1)|)", None),
        ("x = {}|", "after a closer"),
        ("x = 'a'|", "after a closer"),
        ('x = "|', None),
        ("x = f'{|'", None),
        ("it = 'it|", None),
        ("x = '\\'|", None),
    ],
)
def test_asks_while_typing_only_where_something_may_be_missing(marked: str, reason: str | None) -> None:
    assert why_not(place(marked), FILE, invoked=False) == reason
    assert why_not(place(marked), FILE, invoked=True) is None
    assert why_not(place(marked), FILE, invoked=False, is_known=True) is None, "what is shown stays"


def test_a_semicolon_ends_what_there_is_to_say() -> None:
    assert why_not(place("int a = 1;|\n", "c"), FILE, invoked=False) == "after a closer"


@pytest.mark.parametrize(
    ("file", "reason", "by_hand"),
    [
        (File(may_hold_secrets=True), "may hold secrets", "may hold secrets"),
        (File(is_ignored=True), "ignored", "ignored"),
        (File(is_language_off=True), "language is off", None),
        (File(has_several_cursors=True), "several cursors", None),
    ],
)
def test_a_file_may_be_a_reason(file: File, reason: str, by_hand: str | None) -> None:
    assert why_not(place("x = |"), file, invoked=False) == reason
    assert why_not(place("x = |"), file, invoked=False, is_known=True) == reason
    assert why_not(place("x = |"), file, invoked=True) == by_hand


def test_a_huge_file_is_never_sent() -> None:
    assert why_not(place("x" * MAX_FILE_CHARS + " |"), FILE, invoked=True) == "huge file"


def test_a_language_is_turned_off_by_any_of_its_names_or_with_all_others() -> None:
    assert is_language_off("markdown", {"markdown": False})
    assert is_language_off("typescriptreact", {"tsx": False})
    assert not is_language_off("python", {"markdown": False})
    assert not is_language_off("python", {"*": False, "python": True})
    assert is_language_off("go", {"*": False, "python": True})


def steps(*edits: tuple[int, int, str]) -> list[Step]:
    return [Step(Edit(start=start, end=end, added=added), "") for start, end, added in edits]


def test_equal_edits_in_one_message_are_several_cursors() -> None:
    assert is_typed_at_several_cursors(steps((9, 9, "a"), (3, 3, "a")))
    assert not is_typed_at_several_cursors(steps((3, 3, "a")))
    assert not is_typed_at_several_cursors(steps((9, 9, "a"), (3, 4, "")))
    assert not is_typed_at_several_cursors(steps((9, 9, "a whole word"), (3, 3, "a whole word")))


def test_a_key_puts_in_or_takes_away_little() -> None:
    assert is_key(steps((3, 3, "a"))) and is_key(steps((3, 3, "()"))) and is_key(steps((3, 3, "\n        ")))
    assert is_key(steps((3, 4, "")))
    assert not is_key(steps((3, 3, "pasted"))) and not is_key(steps((3, 40, "")))


@pytest.mark.parametrize(
    ("language", "marked", "block"),
    [
        ("python", "def f():|\n", True),
        ("python", "    if a:|\n", True),
        ("python", "x: |\n", False),
        ("python", "a[1:|]\n", False),
        ("python", "f = lambda x:|\n", False),
        ("python", "def f():\n    |\n", True),
        ("python", "def f():\n|\n", True),
        ("python", "x = 1\n|\ny = 2\n", False),
        ("python", "    x = |\n", False),
        ("python", "call(|)\n", True),
        ("python", "x = 'a {|\n", False),
        ("python", "# and then:|\n", False),
        ("python", "def f():| # more\n", False),
        ("go", "func f() {|\n", True),
        ("go", "func f() {\n\t|\n}\n", True),
        ("go", "\tx := |\n", False),
        ("javascript", "items.map(x => {|})\n", True),
        ("ruby", "items.each do |i|\n".replace("|i|", "<i>") + "|", False),
        ("ruby", "def total\n  |\nend\n", True),
        ("ruby", "  def total|\n", True),
        ("shellscript", "if true; then|\n", True),
        ("lua", "for i = 1, 2 do|\n", True),
        ("typescript", "", False),
    ],
)
def test_several_lines_only_where_a_block_begins_or_in_an_empty_line_of_one(
    language: str, marked: str, block: bool
) -> None:
    here = place(marked, language)
    assert wants_block(here.text, here.offset, language) is block


@pytest.mark.parametrize(
    ("marked", "completion", "then"),
    [
        ("x = |\ny", "foo(", "x = foo(|\ny"),
        ("    x = |\ny", "foo(1)", "    x = foo(1)\n    |\ny"),
        ("    x = |\r\ny", "foo(1)", "    x = foo(1)\r\n    |\r\ny"),
        ("f(|)", "x[1]", "f(x[1]|)"),
    ],
)
def test_what_follows_is_looked_for_where_the_cursor_will_be(marked: str, completion: str, then: str) -> None:
    ahead = ahead_of(place(marked), completion)
    assert f"{ahead.text[: ahead.offset]}|{ahead.text[ahead.offset :]}" == then
