from __future__ import annotations

from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_server.dialects import BadRequestError, parse_body
from homespun_server.dialects.openai import openai_call

SETTINGS = Settings(max_new_tokens=48)


def test_an_openai_body_becomes_a_request() -> None:
    body = {
        "model": "m",
        "prompt": ["def f():\n"],
        "suffix": "\nf()",
        "max_tokens": 9,
        "temperature": 0.5,
        "stop": "\n\n",
        "seed": 3,
        "stream": True,
        "homespun": {"repo": "loom", "path": "a/b.py", "language": "python"},
        "top_p": 1,
        "user": "unknown fields are left alone",
    }
    call = openai_call(body, SETTINGS)
    request = call.request
    assert (request.prefix, request.suffix, request.max_new_tokens, request.stop) == (
        "def f():\n",
        "\nf()",
        9,
        ("\n\n",),
    )
    assert (request.repo, request.path, request.language, request.seed) == ("loom", "a/b.py", "python", 3)
    assert call.is_stream and not request.raw and request.temperature == 0.5


def test_defaults_are_the_settings_and_greedy() -> None:
    request = openai_call({"prompt": "x"}, SETTINGS).request
    assert (request.max_new_tokens, request.temperature, request.stop, request.repo) == (48, 0.0, (), None)


def test_an_editor_says_who_asks_and_why() -> None:
    about = {"client": "editor-1:a.py", "trigger": "invoked"}
    request = openai_call({"prompt": "x", "max_tokens": 0, "homespun": about}, SETTINGS).request
    assert (request.client, request.trigger, request.max_new_tokens) == ("editor-1:a.py", "invoked", 0)
    assert openai_call({"prompt": "x"}, SETTINGS).request.trigger == "typed"


def test_an_editor_sends_pieces_of_open_files_and_the_commit() -> None:
    about = {"commit": "a" * 40, "snippets": [{"path": "b.py", "text": "x = 1"}, {"path": "c.py", "text": "y"}]}
    request = openai_call({"prompt": "x", "homespun": about}, SETTINGS).request
    assert request.commit == "a" * 40
    assert [(s.path, s.text, s.source) for s in request.snippets] == [
        ("b.py", "x = 1", "editor"),
        ("c.py", "y", "editor"),
    ]
    assert request.snippets[0].score > request.snippets[1].score


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "temperature": -0.1}, "temperature"),
        ({"prompt": "x", "temperature": 1e308}, "temperature"),
        ({"prompt": "x", "temperature": "hot"}, "temperature"),
        ({"prompt": "x", "stop": ["x"] * 65}, "stop"),
        ({"prompt": "x", "stop": [""]}, "stop"),
        ({"prompt": "x", "stop": ["y" * 1000]}, "stop"),
        ({"prompt": "x", "stop": {"a": 1}}, "stop"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [["x"], [2]]}, "prompt"),
        ({"prompt": ["x", None]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 33}, "prompt"),
        ({"prompt": "x", "top_p": 1.5}, "top_p"),
        ({"prompt": "x", "top_p": True}, "top_p"),
        ({"prompt": "x", "n": 9}, "n"),
        ({"prompt": ["x"] * 17, "n": 2}, "n"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "logprobs": 6}, "logprobs"),
        ({"prompt": "x", "logprobs": 0, "echo": True}, "logprobs"),
        ({"prompt": "x", "suffix": 1}, "suffix"),
        ({"prompt": "x", "homespun": "repo"}, "homespun"),
        ({"prompt": "x", "homespun": {"path": 1}}, "homespun.path"),
        ({"prompt": "x", "homespun": {"trigger": "hottest"}}, "homespun.trigger"),
        ({"prompt": "x", "homespun": {"client": 7}}, "homespun.client"),
        ({"prompt": "x", "homespun": {"commit": "hot"}}, "homespun.commit"),
        ({"prompt": "x", "homespun": {"snippets": "hot"}}, "homespun.snippets"),
        ({"prompt": "x", "homespun": {"snippets": [{"path": "hot"}]}}, "homespun.snippets.text"),
        ({"prompt": "x", "stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_not_repeated(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        openai_call(body, SETTINGS)
    assert refused.value.param == param and refused.value.status == 400
    assert param.split(".")[0] in refused.value.message and "hot" not in refused.value.message.split()


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    body = parse_body(
        rb'{"prompt": "a\ud83d", "suffix": "\ude00b", "stop": ["\udc00"], "homespun": {"path": "\ud800.py"}}'
    )
    request = openai_call(body, SETTINGS).request
    for text in (request.prefix, request.suffix, *request.stop, request.path or ""):
        text.encode("utf-8")
    assert request.prefix == "a�" and request.suffix == "�b"


def test_nul_bytes_and_whole_emoji_pass_through() -> None:
    request = openai_call(parse_body(rb'{"prompt": "a\u0000\ud83d\ude00"}'), SETTINGS).request
    assert request.prefix == "a\0😀"
