"""Chunks hold every line once, in order, along the syntax."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun_core.languages import languages
from homespun_indexer import chunks, parse
from homespun_indexer.chunks import MAX_CHARS, MAX_LINES, chunk_file
from homespun_indexer.imports import Import
from tests.repos import SHOP

LINES = st.sampled_from(
    [
        "",
        "   ",
        "class A:",
        "    def f(self, x):",
        "        return x + 1",
        "# a comment",
        "x = [",
        "]",
        '"""',
        "}",
        "function g() {",
        "  if (x) { y() }",
        "é = 'ü'",
        "value = some_function(argument, other_argument)  # " + "long " * 30,
        "\tindented",
        "\x0c",
        "def broken(",
    ]
)


@pytest.mark.parametrize("language", ["python", "javascript", "go", "ruby", "c", "sql"])
def test_chunks_hold_every_line_once_and_in_order(language: str) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(LINES, max_size=120))
    def holds(lines: list[str]) -> None:
        pieces = chunk_file("\n".join(lines), language).pieces
        held = [n for p in pieces for n in range(p.start_line, p.end_line + 1)]
        assert held == sorted(set(held))
        assert {n for n, line in enumerate(lines, 1) if line.strip()} <= set(held)
        for piece in pieces:
            body = lines[piece.start_line - 1 : piece.end_line]
            size = sum(len("".join(line.split())) for line in body)
            assert len(body) <= MAX_LINES
            assert size <= MAX_CHARS or len(body) == 1
            assert body[0].strip() and body[-1].strip()

    holds()


def _function(name: str, lines: int) -> str:
    return f"def {name}(argument):\n" + "".join(f"    value_{i} = argument + {i}\n" for i in range(lines)) + "\n\n"


def test_functions_that_fit_are_not_cut() -> None:
    text = "import os\n\n\n" + "".join(_function(f"function_{i}", 25) for i in range(6))
    pieces = chunk_file(text, "python").pieces
    lines = text.split("\n")
    starts = {n for n, line in enumerate(lines, 1) if line.startswith("def ")}
    assert {p.start_line for p in pieces} <= starts | {1}


def test_a_comment_stays_with_what_it_explains() -> None:
    text = "".join(f"# Explains {i}.\n# More of it.\n{_function(f'function_{i}', 30)}" for i in range(3))
    lines = text.split("\n")
    assert all(lines[p.start_line - 1].startswith("# Explains") for p in chunk_file(text, "python").pieces)


def test_a_method_knows_its_class() -> None:
    body = "".join("    " + line + "\n" for i in range(4) for line in _function(f"method_{i}", 30).split("\n"))
    pieces = chunk_file("class Basket(Base):\n" + body, "python").pieces
    assert pieces[-1].scope == ("class Basket",)
    assert pieces[-1].defines == ("method_3",)


def test_a_long_function_is_cut_inside_and_knows_its_name() -> None:
    pieces = chunk_file(_function("long_one", 200), "python").pieces
    assert len(pieces) > 2
    assert pieces[0].defines == ("long_one",)
    assert all(p.scope == ("def long_one",) for p in pieces[1:])


def test_languages_without_grammar_are_cut_by_lines() -> None:
    text = "".join(f"SELECT column_{i} FROM t;\n" for i in range(100))
    pieces = chunk_file(text, "sql").pieces
    assert [p.start_line for p in pieces] == [1, 41, 81]


def test_a_parse_that_takes_too_long_falls_back_to_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "PARSE_TIMEOUT_S", -1.0)
    chunked = chunk_file(_function("f", 3_000), "python")
    assert chunked.symbols == ()
    assert chunked.pieces[0].start_line == 1
    assert chunked.pieces[-1].end_line == 3_001


def test_deep_nesting_is_no_problem() -> None:
    text = "".join("(\n" for _ in range(3_000)) + "1\n" + "".join(")\n" for _ in range(3_000))
    pieces = chunk_file(text, "python").pieces
    assert sum(p.end_line - p.start_line + 1 for p in pieces) == 6_001
    nested = "".join("  " * i + f"if x{i}:\n" for i in range(90)) + "  " * 90 + "pass\n"
    assert chunk_file(nested, "python").pieces[-1].end_line == 91


@pytest.mark.parametrize("language", sorted(languages()))
def test_every_language_chunks_an_empty_and_a_strange_file(language: str) -> None:
    assert chunk_file("", language).pieces == ()
    assert len(chunk_file("%%% \u2028 what { is ( this\n", language).pieces) == 1


def test_symbols_are_signatures_with_members() -> None:
    symbols = {s.name: s for s in chunk_file(SHOP["shop/basket.py"], "python").symbols}
    assert symbols["Basket"].signature == (
        "class Basket:\n    def __init__(self, customer_number):\n"
        "    def add(self, item, quantity=1):\n    def total(self):"
    )
    assert symbols["add"].signature == "def add(self, item, quantity=1):"
    assert symbols["add"].line == 13
    assert chunks.MAX_LINES == 40


def test_a_symbol_knows_its_end_and_what_is_around_it() -> None:
    symbols = chunk_file("class A:\n    def f(self):\n        return 1\n\n\ndef g():\n    pass\n", "python").symbols
    assert [(s.name, s.parent, s.line, s.end_line) for s in symbols] == [
        ("A", "", 1, 3),
        ("f", "A", 2, 3),
        ("g", "", 6, 7),
    ]


def test_a_file_knows_its_imports() -> None:
    assert chunk_file("from a import b\n", "python").imports == (Import("a", "b"),)
    assert chunk_file("import a\n", "sql").imports == ()


def test_white_space_of_any_kind_is_not_counted() -> None:
    """Sizes are counted over UTF-8, where a character has several bytes and a space may have three."""
    line = "é\u2003ü\u00a0x\u3000" * 20
    fits = "\n".join([line] * (MAX_CHARS // 60))
    assert len(chunk_file(fits, "sql").pieces) == 1
    assert len(chunk_file(fits + "\nxx", "sql").pieces) == 2
