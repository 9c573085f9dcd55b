from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.postprocess import finish
from homespun_server.assembly import Assembly, is_decided, is_unsure, scored
from homespun_server.engine.protocol import Token
from tests.fakes import ByteTokenizer

DECODE = ByteTokenizer(()).decode


def _assembled(text: str, *stops: str) -> Assembly:
    assembly = Assembly(DECODE, stops)
    for token in text.encode():
        if not assembly.is_stopped:
            assembly.add(token)
    return assembly


def test_text_ends_before_the_first_stop_string() -> None:
    assembly = _assembled("value = 1\n\nnext", "\n\n", "=")
    assert assembly.text == "value " and assembly.is_stopped


@pytest.mark.parametrize(("text", "rest"), [("a = 1\nb = ", "a = 1"), ("a = 1\n", "a = 1"), ("a = ", ""), ("", "")])
def test_what_ends_at_a_line_leaves_the_unfinished_one_out(text: str, rest: str) -> None:
    assembly = _assembled(text)
    assembly.end_at_line()
    assert assembly.text == assembly.settled == rest and assembly.is_stopped


@pytest.mark.parametrize(
    ("probabilities", "least", "unsure"),
    [
        ([0.05], 0.1, True),
        ([0.2], 0.1, False),
        ([0.9, 0.01], 0.1, True),
        ([0.9, 0.02], 0.1, False),
        ([], 1.0, False),
        ([1e-9], 0.0, False),
    ],
)
def test_what_is_as_likely_as_that_on_average_is_sure(probabilities: list[float], least: float, unsure: bool) -> None:
    assert is_unsure([math.log(p) for p in probabilities], least) is unsure


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    assembly = Assembly(DECODE, ())
    seen = []
    for token in "é😀".encode():
        assembly.add(token)
        seen.append(assembly.text)
    assert seen == ["", "é", "é", "é", "é", "é😀"]


@given(st.text(alphabet="ab\n", max_size=20), st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3))
def test_settled_text_is_never_taken_back(text: str, stops: list[str]) -> None:
    assembly, settled = Assembly(DECODE, stops), ""
    for token in text.encode():
        if assembly.is_stopped:
            break
        assembly.add(token)
        assert assembly.settled.startswith(settled)
        settled = assembly.settled
    assert assembly.text.startswith(settled)
    assert not any(stop in assembly.text for stop in stops)


@pytest.mark.parametrize(
    ("prefix", "text", "suffix", "expected"),
    [
        ("x = f(", "1\n", " + 2)\n", True),  # code right of the cursor: one line is all it can be
        ("def f():\n    ", "return 1\n", "", False),
        ("def f():\n    ", "return 1\n\ndef g():\n", "", True),  # left the block
        ("def f():\n    ", "return 1\n\ndef g(", "", False),  # perhaps; the line isn't whole
        ("def f():\n    ", "a = 1\n    return a\n", "\n    return a\n", True),  # what stands below already
        ("    ", "x = 1\n", "", False),
        ("", "", "", False),
    ],
)
def test_decoding_ends_when_nothing_that_follows_could_be_shown(
    prefix: str, text: str, suffix: str, expected: bool
) -> None:
    assert is_decided(prefix, text, suffix) is expected


_LINES = st.lists(
    st.sampled_from(["", "    x = 1", "    return x", "    )", "def g():", "        y()", "    x = 1  # one"]),
    max_size=8,
)


@given(
    lines=_LINES, more=_LINES, below=_LINES, prefix=st.sampled_from(["def f():\n    ", "", "    foo(", "x = [\n    "])
)
def test_stopping_early_never_changes_what_is_shown(
    lines: list[str], more: list[str], below: list[str], prefix: str
) -> None:
    suffix = "\n" + "\n".join(below)
    head = "".join(f"{line}\n" for line in lines).lstrip(" ")
    if is_decided(prefix, head, suffix):
        whole = head + "\n".join(more)
        for truncated in (False, True):
            assert finish(prefix, whole, suffix, truncated=truncated) == finish(prefix, head, suffix)


def test_another_attempt_begins_with_nothing() -> None:
    """The tokens of one that failed were once in front of those of the next."""
    assembly = Assembly(lambda ids: "".join(map(chr, ids)), [])
    assembly.opening = "aa"
    assembly.add(ord("a"))
    assembly.restart()
    for char in "aax":
        assembly.add(ord(char))
    assert assembly.text == "x" and assembly.ids == [97, 97, 120]


@given(st.text(max_size=6), st.text(max_size=8), st.integers(0, 8))
def test_scored_tokens_spell_the_text_wherever_it_was_cut(opening: str, written: str, length: int) -> None:
    text = written[:length]
    tokens = [Token(byte, -number / 8) for number, byte in enumerate((opening + written).encode())]
    found = scored(tokens, DECODE, opening, text)
    assert "".join(token.text for token in found) == text
    assert all(token.logprob in {-n / 8 for n in range(len(tokens))} for token in found)


def test_a_token_that_goes_on_after_the_opening_counts_and_one_before_it_does_not() -> None:
    spellings = {1: "re", 2: "turn x", 3: "\n"}
    tokens = [Token(1, -0.1), Token(2, -0.2, ((3, -0.9), (1, -2.0))), Token(3, -0.3)]
    found = scored(tokens, lambda ids: "".join(spellings[i] for i in ids), "ret", "urn x")
    assert [(t.id, t.text, t.logprob, t.alternatives) for t in found] == [
        (2, "urn x", -0.2, (("\n", -0.9), ("re", -2.0)))
    ]
