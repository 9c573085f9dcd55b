from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_server.dialects import BadRequestError, is_tabby, openai_call, parse_body, tabby_call

SETTINGS = Settings(max_new_tokens=48)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["prompt", "suffix", "max_tokens", "temperature", "stop", "stream", "n", "echo", "seed", "logprobs", "model"]
FIELDS += ["homespun", "segments", "language", "mode", "debug_options", "stream_options", "user"]


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
    assert call.stream and not request.raw and request.temperature == 0.5


def test_defaults_are_the_settings_and_greedy() -> None:
    request = openai_call({"prompt": "x"}, SETTINGS).request
    assert (request.max_new_tokens, request.temperature, request.stop, request.repo) == (48, 0.0, (), None)


def test_an_editor_says_who_asks_and_why() -> None:
    about = {"client": "editor-1:a.py", "trigger": "invoked"}
    request = openai_call({"prompt": "x", "max_tokens": 0, "homespun": about}, SETTINGS).request
    assert (request.client, request.trigger, request.max_new_tokens) == ("editor-1:a.py", "invoked", 0)
    assert openai_call({"prompt": "x"}, SETTINGS).request.trigger == "typed"


def test_a_tabby_body_becomes_a_request() -> None:
    body = {
        "language": "python",
        "segments": {
            "prefix": "a",
            "suffix": "b",
            "filepath": "x.py",
            "git_url": "git@git.example.com:loomworks/loom.git",
            "clipboard": "tolerated",
            "declarations": [{"filepath": "y.py", "body": "z"}],
        },
        "user": "someone",
        "mode": "standard",
        "debug_options": {"return_snippets": True, "raw_prompt": None},
    }
    assert is_tabby(body)
    call = tabby_call(body, SETTINGS)
    assert (call.request.prefix, call.request.suffix, call.request.path) == ("a", "b", "x.py")
    assert call.request.repo == "git@git.example.com:loomworks/loom.git"
    assert call.mode == "standard" and call.return_snippets


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"prompt": "x", "max_tokens": True}, "max_tokens"),
        ({"prompt": "x", "temperature": -0.1}, "temperature"),
        ({"prompt": "x", "temperature": 1e308}, "temperature"),
        ({"prompt": "x", "temperature": "hot"}, "temperature"),
        ({"prompt": "x", "stop": ["x"] * 17}, "stop"),
        ({"prompt": "x", "stop": [""]}, "stop"),
        ({"prompt": "x", "stop": ["y" * 1000]}, "stop"),
        ({"prompt": "x", "stop": {"a": 1}}, "stop"),
        ({"prompt": "x", "n": 2}, "n"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "logprobs": 5}, "logprobs"),
        ({"prompt": "x", "suffix": 1}, "suffix"),
        ({"prompt": "x", "homespun": "repo"}, "homespun"),
        ({"prompt": "x", "homespun": {"path": 1}}, "homespun.path"),
        ({"prompt": "x", "homespun": {"trigger": "hottest"}}, "homespun.trigger"),
        ({"prompt": "x", "homespun": {"client": 7}}, "homespun.client"),
        ({"prompt": "x", "stream": "yes"}, "stream"),
    ],
)
def test_a_wrong_field_is_named_and_its_value_not_repeated(body: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        openai_call(body, SETTINGS)
    assert refused.value.param == param and refused.value.status == 400
    assert param.split(".")[0] in refused.value.message and "hot" not in refused.value.message.split()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'"text"',
        b"null",
        b"\xff\xfe{",
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
    ],
)
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_body(raw)
    assert refused.value.code == "invalid_json"


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


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_whatever_the_body_holds_it_is_a_request_or_a_refusal(body: dict[str, Any]) -> None:
    parsed = parse_body(json.dumps(body).encode())
    try:
        call = tabby_call(parsed, SETTINGS) if is_tabby(parsed) else openai_call(parsed, SETTINGS)
    except BadRequestError as error:
        assert "\n" not in error.message
    else:
        assert call.request.max_new_tokens >= 1 and 0 <= call.request.temperature <= 2
