"""What all dialects have in common: any body is a call or a refusal in one line, and any answer is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun_core.config import Settings
from homespun_core.types import Completion, Part, ScoredToken, Timings
from homespun_server.dialects import BadRequestError, parse_body
from homespun_server.dialects.calls import MAX_CHOICES, Call, Stamp, Told, samples
from homespun_server.dialects.llama_cpp import completion_call, infill_call
from homespun_server.dialects.mistral import mistral_call
from homespun_server.dialects.ollama import ollama_call
from homespun_server.dialects.openai import openai_call
from homespun_server.dialects.tabby import tabby_call
from homespun_server.dialects.tgi import tgi_call

SETTINGS = Settings(max_new_tokens=48)
Maker = Callable[[Any, Settings], Call]
MAKERS: dict[str, Maker] = {
    "openai": openai_call,
    "mistral": mistral_call,
    "infill": infill_call,
    "completion": completion_call,
    "ollama": ollama_call,
    "tgi": tgi_call,
    "tabby": tabby_call,
}
SMALLEST: dict[str, dict[str, Any]] = {
    "openai": {"prompt": "x"},
    "mistral": {"prompt": "x"},
    "infill": {"input_prefix": "x", "input_suffix": ""},
    "completion": {"prompt": "x"},
    "ollama": {"prompt": "x"},
    "tgi": {"inputs": "x"},
    "tabby": {"segments": {"prefix": "x"}},
}
NAMES = [
    *(
        "prompt",
        "suffix",
        "max_tokens",
        "temperature",
        "stop",
        "stream",
        "n",
        "top_p",
        "top_k",
        "echo",
        "seed",
        "logprobs",
        "model",
    ),
    *("homespun", "path", "trigger", "client", "segments", "prefix", "filepath", "declarations", "body", "language"),
    *("mode", "debug_options", "stream_options", "user", "random_seed", "input_prefix", "input_suffix", "input_extra"),
    *("n_predict", "n_cmpl", "n_indent", "t_max_predict_ms", "response_fields", "options", "num_predict", "raw"),
    *("inputs", "parameters", "details", "best_of", "do_sample", "return_full_text", "text", "filename"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
COMPLETION = Completion(
    text="a\nb",
    finish_reason="stop",
    prompt_tokens=7,
    cached_tokens=3,
    completion_tokens=2,
    snippets=(),
    adapter=None,
    timings=Timings(retrieve_ms=1, queue_ms=2, prefill_ms=3, decode_ms=4),
    tokens=(ScoredToken(id=1, text="a", logprob=-0.5), ScoredToken(id=2, text="\nb", logprob=-1.5)),
)
STAMP = Stamp(id="cmpl-1", created=1_700_000_000.5, model="homespun")


@pytest.mark.parametrize("dialect", MAKERS)
@given(body=st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_a_body_holds_it_is_a_call_or_a_refusal(dialect: str, body: dict[str, Any]) -> None:
    parsed = parse_body(json.dumps(SMALLEST[dialect] | body).encode())
    try:
        call = MAKERS[dialect](parsed, SETTINGS)
    except BadRequestError as error:
        assert error.message and "\n" not in error.message and error.status == 400 and error.param
    else:
        assert call.request.max_new_tokens >= 0 and 0 <= call.request.temperature <= 2
        assert 0 <= call.request.top_p <= 1 and call.request.top_k >= 0
        assert 1 <= call.num_choices <= MAX_CHOICES
        every = range(call.num_choices * (1 + len(call.others)))
        json.dumps(call.reply([COMPLETION] * len(every), STAMP))
        told = Told(call, STAMP)
        part = Part(text=COMPLETION.text, tokens=COMPLETION.tokens)
        frames = [*told.frames(every, part), *told.frames(every, COMPLETION), *told.last()]
        assert all(call.framing.frame(data) for data in frames)


@pytest.mark.parametrize("dialect", MAKERS)
def test_the_smallest_body_takes_the_servers_defaults(dialect: str) -> None:
    call = MAKERS[dialect](SMALLEST[dialect], SETTINGS)
    request = call.request
    assert (request.prefix, request.suffix, request.max_new_tokens, request.temperature) == ("x", "", 48, 0.0)
    assert call.is_stream is (dialect == "ollama") and call.num_choices == 1 and request.readable is None


@pytest.mark.parametrize("dialect", MAKERS)
def test_what_homespun_knows_more_can_be_said_in_every_dialect(dialect: str) -> None:
    extra: dict[str, Any] = {"path": "a.py", "repo": "loom", "language": "python"}
    extra |= {"client": "c", "user": "u", "trigger": "invoked", "snippets": [{"path": "b.py", "text": "b = 1"}]}
    request = MAKERS[dialect](SMALLEST[dialect] | {"homespun": extra}, SETTINGS).request
    assert (request.path, request.repo, request.language) == ("a.py", "loom", "python")
    assert (request.client, request.user, request.trigger) == ("c", "u", "invoked")
    assert [(s.path, s.text, s.source) for s in request.snippets] == [("b.py", "b = 1", "editor")]


@pytest.mark.parametrize("dialect", MAKERS)
def test_no_body_can_say_what_its_user_may_read(dialect: str) -> None:
    body = SMALLEST[dialect] | {"readable": ["a"], "homespun": {"readable": ["a"]}}
    assert MAKERS[dialect](body, SETTINGS).request.readable is None


def test_samples_differ_in_seed_and_only_the_first_replaces_an_older_request() -> None:
    body = {"prompt": "x", "n": 3, "temperature": 1.0, "seed": 7, "homespun": {"client": "c"}}
    first, *others = samples(openai_call(body, SETTINGS))
    assert first.request.client == "c" and first.request.trigger == "typed" and first.request.seed == 7
    assert [(s.request.client, s.request.trigger, s.request.seed) for s in others] == [
        (None, "ahead", 8),
        (None, "ahead", 9),
    ]
    assert [list(sample.choices) for sample in (first, *others)] == [[0], [1], [2]]
    [only] = samples(openai_call(body | {"temperature": 0}, SETTINGS))
    assert list(only.choices) == [0, 1, 2]


def test_choices_of_several_prompts_are_numbered_prompt_by_prompt() -> None:
    body = {"prompt": ["x", "y"], "n": 2, "temperature": 1.0, "seed": 7}
    found = samples(openai_call(body, SETTINGS))
    assert [(s.request.prefix, s.request.seed, *s.choices) for s in found] == [
        ("x", 7, 0),
        ("x", 8, 1),
        ("y", 7, 2),
        ("y", 8, 3),
    ]
    alike = samples(openai_call(body | {"temperature": 0}, SETTINGS))
    assert [(s.request.prefix, *s.choices) for s in alike] == [("x", 0, 1), ("y", 2, 3)]
