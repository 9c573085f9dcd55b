from __future__ import annotations

import random
from collections import Counter

from homespun_trainer.spans import MAX_BLOCK_LINES, Cut, Lines, block_end, choose_cut, is_left_open

PYTHON = """\
import os


class Basket:
    def total(self, rate):
        if not self.items:
            return 0
        return sum(item.price for item in self.items) * rate

    def add(self, item):
        self.items.append(item)
"""
GO = "func (b *Basket) Add(i Item) {\n\tb.items = append(b.items, i)\n\tb.log(i)\n}\n\nfunc other() {\n}\n"


def cuts(text: str, count: int = 400) -> list[Cut]:
    lines, rng = Lines.of(text), random.Random(0)
    return [cut for _ in range(count) if (cut := choose_cut(lines, rng)) is not None]


def test_every_middle_ends_at_a_line_end_or_before_closing_brackets() -> None:
    for text in (PYTHON, GO):
        for cut in cuts(text):
            after = text[cut.end :].partition("\n")[0]
            assert after == "" or set(after) <= set(")]}'\"`;,"), (cut, after)


def test_every_kind_of_place_occurs() -> None:
    kinds = Counter(cut.kind for cut in cuts(PYTHON))
    assert set(kinds) == {"rest of line", "inside a name", "block", "few lines", "before closers", "nothing"}
    assert kinds["rest of line"] > kinds["block"]


def test_an_empty_middle_stands_only_where_nothing_belongs() -> None:
    assert all((cut.start == cut.end) == (cut.kind == "nothing") for cut in cuts(PYTHON))


def test_no_middle_ends_behind_a_bracket_that_it_opens() -> None:
    """Adapters learned to stop there, in the middle of calls (benchmarks/LOG.md, 2026-11-28)."""
    text = "value = call(\n    first,\n    second,\n)\nother = call()\nmap = {\n    'a': [\n        1,\n    ],\n}\n" * 3
    found = cuts(text)
    assert not any(is_left_open(text[c.start : c.end]) for c in found)
    assert any(
        text[c.start : c.end].endswith("call(\n    first,\n    second,\n)") for c in found if c.kind == "rest of line"
    )


def test_a_name_is_cut_inside() -> None:
    for cut in (c for c in cuts(PYTHON) if c.kind == "inside a name"):
        assert PYTHON[cut.start - 1].isalnum() and PYTHON[cut.start].isalnum()


def test_a_block_ends_where_the_indentation_ends() -> None:
    lines = Lines.of(PYTHON)
    header = next(i for i in range(len(lines)) if "def total" in lines.line(i))
    assert lines.line(block_end(lines, header)).endswith("* rate")


def test_a_block_of_a_brace_language_includes_its_closing_brace() -> None:
    lines = Lines.of(GO)
    assert lines.line(block_end(lines, 0)) == "}"


def test_a_block_that_is_too_long_is_no_middle() -> None:
    text = "def long():\n" + "".join(f"    step_{i}()\n" for i in range(MAX_BLOCK_LINES * 2))
    assert all(PYTHON.count("\n", cut.start, cut.end) < MAX_BLOCK_LINES for cut in cuts(text))


def test_walls_of_data_and_blank_files_are_left_alone() -> None:
    assert cuts("\n\n  \n") == []
    assert cuts("x = '" + "a" * 5_000 + "'") == []


def test_a_hunk_is_cut_from_one_of_its_lines_to_its_end() -> None:
    text = "import os\n\n\ndef total(items):\n    found = lookup(items)\n    return found\n}\n\nlast_line = 1\n"
    lines = Lines.of(text)
    middles = set()
    for seed in range(60):
        cut = choose_cut(lines, random.Random(seed), [(3, 6)], 1.0)
        if cut is not None and cut.kind == "hunk":
            middles.add(text[cut.start : cut.end])
    whole = "def total(items):\n    found = lookup(items)\n    return found"
    assert middles == {whole, whole.partition("    ")[2], "return found"}


def test_a_hunk_that_is_no_longer_there_makes_no_cut_and_none_is_needed() -> None:
    lines = Lines.of("total = compute(1)\n" * 4)
    for recent in ([(90, 99)], []):
        cut = choose_cut(lines, random.Random(1), recent, 1.0)
        assert cut is not None and cut.kind != "hunk"
