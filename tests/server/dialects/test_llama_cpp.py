from __future__ import annotations

from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_server.dialects.llama_cpp import completion_call, infill_call, picked, within_indent

SETTINGS = Settings(max_new_tokens=48)
BODY: dict[str, Any] = {"input_prefix": "def f():\n", "input_suffix": "\nf()\n", "prompt": "    return "}


def test_the_line_of_the_cursor_belongs_to_the_prefix() -> None:
    request = infill_call(BODY, SETTINGS).request
    assert (request.prefix, request.suffix) == ("def f():\n    return ", "\nf()\n")


def test_the_last_extra_is_the_best() -> None:
    """llama.vim and llama.vscode keep their chunks in a ring, the newest at its end."""
    extras = [{"filename": "old.py", "text": "a"}, {"text": "b"}]
    snippets = infill_call(BODY | {"input_extra": extras}, SETTINGS).request.snippets
    assert [(s.path, s.text, s.source) for s in snippets] == [("tmp", "b", "editor"), ("old.py", "a", "editor")]
    assert snippets[0].score > snippets[1].score


@pytest.mark.parametrize(("n_predict", "tokens"), [(None, 48), (-1, 48), (0, 0), (7, 7)])
def test_how_much_is_predicted(n_predict: int | None, tokens: int) -> None:
    assert infill_call(BODY | {"n_predict": n_predict}, SETTINGS).request.max_new_tokens == tokens


@pytest.mark.parametrize(("limit", "wanted"), [(None, None), (0, None), (-1, None), (250, 250), (1.5, 1)])
def test_a_time_limit_is_one_of_decoding(limit: float | None, wanted: int | None) -> None:
    assert infill_call(BODY | {"t_max_predict_ms": limit}, SETTINGS).request.max_decode_ms == wanted


@pytest.mark.parametrize(("seed", "wanted"), [(None, None), (-1, None), (0, 0), (42, 42)])
def test_a_negative_seed_is_none(seed: int | None, wanted: int | None) -> None:
    assert completion_call({"prompt": "x", "seed": seed}, SETTINGS).request.seed == wanted


@pytest.mark.parametrize(
    ("text", "least", "kept"),
    [
        ("a\nb", 0, "a\nb"),
        ("a\n    b\n\n    c\n  d\n    e", 4, "a\n    b\n\n    c"),
        ("a\n\tb\nc", 1, "a\n\tb"),
        ("a", 8, "a"),
        ("", 8, ""),
    ],
)
def test_a_line_that_is_indented_less_ends_it(text: str, least: int, kept: str) -> None:
    assert within_indent(text, least) == kept


def test_fields_are_named_by_their_way() -> None:
    reply = {"content": "x", "timings": {"prompt_n": 3, "more": {"deep": 1}}, "none": None}
    assert picked(reply, ["content", "timings/prompt_n", "timings/more/deep", "content/x", "no", "none"]) == {
        "content": "x",
        "timings/prompt_n": 3,
        "timings/more/deep": 1,
        "none": None,
    }
