from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_trainer.page import render
from homespun_trainer.page.markup import Html, join, tag
from homespun_trainer.page.numbers import metric
from homespun_trainer.page.plots import Interval, Line, curves, dots, forest

NUMBERS = {"value": -0.125, "low": -0.2, "high": -0.1}
SUMMARY: dict[str, Any] = {
    "tasks": 60,
    "commits": 20,
    "exact_match": {"value": 0.02, "low": -0.01, "high": 0.05},
    "edit_similarity": NUMBERS,
    "identifier_f1": NUMBERS,
    "bits_per_byte": NUMBERS,
    "text_bits_per_byte": NUMBERS,
    "stop_accuracy": None,
    "milliseconds": NUMBERS,
    "mcnemar": {"gained": 5, "lost": 2, "p": 0.45},
}
EXAMPLE = {
    "path": "a.py",
    "commit": "0123456789abcdef",
    "context": "def f():\n    return ",
    "written": "</pre><script>alert(1)</script>",
    "before": "x",
    "after": "</pre><script>alert(1)</script>",
    "rule": "only adapter got it right",
}
FACTS: dict[str, Any] = {
    "promote": False,
    "reasons": ["it is <b>worse</b>"],
    "deciding": "adapter - base",
    "arms": {"base": {"all": SUMMARY, "novel": SUMMARY}, "adapter": {"all": SUMMARY, "seen": SUMMARY}},
    "differences": {"adapter - base": SUMMARY},
    "new_lines": {"adapter - base": SUMMARY},
    "languages": {"python": SUMMARY},
    "general": [{"library": "Go's standard library", "places": 160, "base": 1.1, "change": NUMBERS}],
    "untested": ["sql"],
    "memory": {
        "canaries": [{"kind": "uuid", "insertions": 1, "bits": 1.5, "is_recited": False, "is_learned": True}],
        "leaks": 0,
    },
    "examples": [EXAMPLE],
    "training": {
        "recipe": {"rank": 8, "learning_rate": 1e-3},
        "trainable_parameters": 1000,
        "steps": 10,
        "tokens": 1000,
        "seconds": 10.0,
        "tokens_per_second": 100,
        "loss": [{"tokens": t, "seconds": t / 100, "loss": 3 - t / 1000} for t in (100, 500, 1000)],
        "held_out_loss": [{"step": 5, "loss": 2.5}],
        "kept_step": 5,
        "placement": "cpu",
        "machine": {"architecture": "x86_64", "cores": 2, "threads": 2},
        "versions": {"torch": "2"},
    },
    "corpus": {"repository": "/shop", "commit": "abc", "split": "time"},
    "corpus_report": {"documents": 3, "characters": 1000, "languages": {"python": 3}, "skipped": {"too long": 1}},
}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [name for name, _ in attrs if name in ("src", "href", "srcset", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = render("shop", FACTS)
    found = read(page)
    assert not found.addresses and not {"script", "link", "img", "iframe"} & set(found.tags)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page.replace("&#x27;", "'")


def test_text_of_a_repository_cannot_become_markup() -> None:
    page = render("<i>shop</i>", FACTS)
    assert "<script>" not in page and "<b>worse" not in page and "<i>shop" not in page
    assert "&lt;script&gt;" in page


def test_a_page_has_a_section_for_everything_there_is() -> None:
    assert read(render("shop", FACTS)).headings == [
        "What each layer writes",
        "Differences, place by place",
        "By language",
        "New and known lines",
        "Code that isn't yours",
        "What it learned by heart",
        "Examples",
        "Training",
        "What it learned from",
    ]


def test_an_evaluation_without_a_run_and_a_run_without_places_have_pages_too() -> None:
    evaluation = {key: FACTS[key] for key in ("deciding", "arms", "differences", "languages", "examples", "corpus")}
    assert "goes live" not in render("shop", evaluation) and "Completions in shop" in render("shop", evaluation)
    empty = {"promote": False, "reasons": ["none"], "deciding": "a - b", "arms": {}, "differences": {}}
    empty |= {"general": [], "untested": []}
    assert "does not go live" in render("shop", empty)


@pytest.mark.parametrize("name", ["Plots", "<&>"])
def test_every_plot_says_in_words_what_it_shows(name: str) -> None:
    row = Interval(label=name, value=1.0, low=0.5, high=2.0, text="1.0 [0.5, 2.0]", tone="good")
    pictures = [
        forest(name, [row], zero=True, spell=str),
        curves(
            name, [Line(label=name, points=[(0, 3), (1, 2)]), Line(label="none", points=[])], x_name="x", y_name="y"
        ),
        dots(name, [(name, [1.0, 2.0])], limit=4, most=7),
    ]
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.get("role") == "img" and root.findtext("title") == name
        assert name in (root.findtext("desc") or "")


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=6), st.booleans())
def test_nothing_is_drawn_outside_the_picture(values: list[tuple[float, float, float]], zero: bool) -> None:
    rows = []
    for triple in values:
        low, value, high = sorted(triple)
        rows.append(Interval(label="arm", value=value, low=low, high=high, text="?"))
    root = ElementTree.fromstring(forest("t", rows, zero=zero, spell=str))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for name, most in (("x1", width), ("x2", width), ("cx", width), ("y1", height), ("y2", height), ("cy", height)):
            assert 0 <= float(element.get(name, 0)) <= most


def test_an_unknown_interval_is_called_so_and_a_dot_alone_is_drawn() -> None:
    estimate = {"value": 0.5, "low": None, "high": None}
    bits = metric("bits_per_byte")
    assert (bits.interval(estimate, signed=True), bits.tone(estimate)) == ("not known", "")
    row = Interval(label="arm", value=0.5, low=None, high=None, text="?")
    root = ElementTree.fromstring(forest("t", [row], zero=True, spell=str))
    assert len({element.get("x1") for element in root.iter() if element.get("class") == "whisker"}) == 1


def test_what_is_no_number_is_in_the_table_and_in_no_plot() -> None:
    """A training ended in a traceback after it was judged."""
    nothing = {"value": None, "low": None, "high": None}
    summary = SUMMARY | {"bits_per_byte": nothing}
    general = [{"library": "Go's", "places": 160, "base": 1.1, "change": nothing}]
    page = render("shop", FACTS | {"differences": {"adapter - base": summary}, "general": general})
    assert "not known" in page and "<h3>Bits per byte</h3>" in page  # of the languages
    page = render("shop", FACTS | {"differences": {"a - b": summary}, "languages": {"go": summary}, "general": general})
    assert "not known" in page and "<h3>Bits per byte</h3>" not in page


@given(st.text())
def test_text_comes_back_as_it_was(text: str) -> None:
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "", text)
    root = ElementTree.fromstring(tag("p", clean, title=clean))
    assert (root.text or "") == clean.replace("\r", "\n")
    assert join(Html("<b>"), "<b>") == "<b>&lt;b&gt;"
