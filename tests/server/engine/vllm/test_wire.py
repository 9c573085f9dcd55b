from __future__ import annotations

import json
from typing import Any

import pytest

from homespun_core.errors import ConfigError
from homespun_server.engine.protocol import EngineRequest, Token
from homespun_server.engine.vllm.wire import (
    Chunk,
    FailureKind,
    Models,
    VllmError,
    check_trial,
    checked_url,
    completion_body,
    event_data,
    failure_of,
    parse_chunk,
    parse_models,
    parse_scores,
    reason_of,
    salt,
    score_body,
)


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ("http://gpu:8000", "http://gpu:8000"),
        ("https://gpu.example.com/pool/", "https://gpu.example.com/pool"),
        ("http://gpu:8000/v1", "http://gpu:8000"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
    ],
)
def test_an_address_is_brought_into_one_form(given: str, checked: str) -> None:
    assert checked_url(given) == checked


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu:8000",
        "file:///etc/passwd",
        "unix:/run/vllm.sock",
        "http://",
        "http://gpu:port",
        "http://gpu:0",
        "http://gpu:8000/?key=secret",
        "http://user:secret@gpu:8000",
        "http://gpu:8000#secret",
        "http://[::1",
    ],
)
def test_other_addresses_are_refused_without_repeating_a_secret(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_url(url)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def _body(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"ids": [1, 2, 3], "max_new_tokens": 8}
    request = EngineRequest(**(options | changes))
    return completion_body(request, model="base", max_context=10, secret="s", has_priorities=True)


def test_a_body_says_everything_that_a_models_own_defaults_could_change() -> None:
    body = _body(end_ids=frozenset([7, 5]), temperature=0.5, seed=3, priority="ahead")
    assert body["prompt"] == [1, 2, 3] and body["stop_token_ids"] == [5, 7] and body["ignore_eos"] is True
    assert (body["temperature"], body["seed"], body["priority"], body["max_tokens"]) == (0.5, 3, 2, 8)
    for name, plain in {"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}.items():
        assert body[name] == plain
    assert "cache_salt" not in body and "seed" not in _body()


def test_filling_the_cache_generates_one_token_and_keeps_room_for_it() -> None:
    body = _body(ids=list(range(10)), max_new_tokens=0)
    assert body["max_tokens"] == 1 and body["prompt"] == list(range(9))


def test_tenants_have_salts_of_their_own_that_dont_tell_their_names() -> None:
    assert _body(tenant="red")["cache_salt"] == salt("red", "s") != salt("blue", "s")
    assert "red" not in salt("red", "s") and salt("red", "s") != salt("red", "t")


def test_a_score_body_has_the_last_id_as_the_only_one_allowed() -> None:
    body = score_body([4, 5, 6], model="base")
    assert (body["prompt"], body["allowed_token_ids"], body["max_tokens"], body["echo"]) == ([4, 5], [6], 1, True)


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ('data: {"a": 1}', '{"a": 1}'),
        ("data:[DONE]", "[DONE]"),
        ("data:  x", " x"),
        (": ping", None),
        ("", None),
        ("event: x", None),
        ("database", None),
    ],
)
def test_the_data_of_server_sent_events(line: str, data: str | None) -> None:
    assert event_data(line) == data


def _event(ids: list[str], logprobs: list[float | None], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"tokens": ids, "token_logprobs": logprobs}, "finish_reason": finish}]}


def test_an_event_has_tokens_by_id() -> None:
    event = _event(["token_id:7", "token_id:8"], [-0.5, -1.5], "stop")
    assert parse_chunk(json.dumps(event)) == Chunk(tokens=(Token(7, -0.5), Token(8, -1.5)), finish="stop")
    assert parse_chunk("[DONE]") is None


def test_alternatives_come_where_they_were_asked_for() -> None:
    assert _body(num_alternatives=2)["logprobs"] == 2 and _body()["logprobs"] == 0
    event = _event(["token_id:7"], [-0.5], None)
    event["choices"][0]["logprobs"]["top_logprobs"] = [{"token_id:9": -2.0, "token_id:7": -0.5, "token_id:8": -1.5}]
    chunk = parse_chunk(json.dumps(event))
    assert chunk is not None and chunk.tokens == (Token(7, -0.5, ((7, -0.5), (8, -1.5), (9, -2.0))),)
    event["choices"][0]["logprobs"]["top_logprobs"] = [{"token_id:7": -0.5}]
    alone = parse_chunk(json.dumps(event))
    assert alone is not None and alone.tokens == (Token(7, -0.5),)


def test_the_last_event_has_the_counts() -> None:
    drafts = {"num_spec_steps": 3, "num_draft_tokens": 9, "num_accepted_draft_tokens": 5}
    event = {
        "choices": [],
        "usage": {"prompt_tokens_details": {"cached_tokens": 16}},
        "metrics": {"speculative_decoding": drafts},
    }
    expected = Chunk(cached_tokens=16, num_steps=3, drafted_tokens=9, accepted_tokens=5)
    assert parse_chunk(json.dumps(event)) == expected
    assert parse_chunk('{"choices": [], "usage": {"prompt_tokens_details": null}, "metrics": null}') == Chunk()


@pytest.mark.parametrize(
    "data",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"choices": [{"logprobs": {"tokens": ["f"], "token_logprobs": [0]}}]}',
        json.dumps(_event(["token_id:7"], [])),
        json.dumps(_event(["token_id:7"], [None])),
        json.dumps(_event([], [], "abort")),
    ],
)
def test_what_is_no_event_of_a_completion_is_a_broken_server(data: str) -> None:
    with pytest.raises(VllmError) as failed:
        parse_chunk(data)
    assert failed.value.kind == "broken"


@pytest.mark.parametrize(("code", "kind"), [(503, "busy"), (500, "broken"), (400, "refused"), (None, "broken")])
def test_an_error_event_is_what_its_code_says_and_its_text_is_left_out(code: int | None, kind: FailureKind) -> None:
    with pytest.raises(VllmError) as failed:
        parse_chunk(json.dumps({"error": {"code": code, "message": "def secret_source(): ..."}}))
    assert failed.value.kind == kind and "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "refused"),
        (401, "refused"),
        (404, "missing"),
        (422, "refused"),
        (429, "busy"),
        (503, "busy"),
        (500, "broken"),
        (502, "broken"),
        (307, "broken"),
    ],
)
def test_what_a_status_means(status: int, kind: FailureKind) -> None:
    assert failure_of(status).kind == kind


@pytest.mark.parametrize(("header", "seconds"), [(None, 1), ("7", 7), ("0", 1), ("9999", 60), ("soon", 1)])
def test_how_long_to_wait_is_believed_within_reason(header: str | None, seconds: int) -> None:
    assert failure_of(503, header).retry_after_s == seconds


def test_models() -> None:
    cards = [{"id": "a", "parent": "base"}, {"id": "base", "parent": None, "max_model_len": 512}]
    assert parse_models({"data": cards}) == Models("base", 512, frozenset({"a"}))
    wrong: list[Any] = [None, {}, {"data": []}, {"data": cards[:1]}, {"data": [{"id": "base"}]}, []]
    for payload in wrong:
        with pytest.raises(VllmError):
            parse_models(payload)


def test_scores_are_those_of_the_ids_that_were_asked_about() -> None:
    payload = _event(["token_id:4", "token_id:5", "token_id:6"], [None, -1.0, -2.0])
    assert parse_scores(payload, [4, 5, 6]) == [-1.0, -2.0]
    for wrong in (payload | {"choices": []}, None):
        with pytest.raises(VllmError):
            parse_scores(wrong, [4, 5, 6])
    with pytest.raises(VllmError):
        parse_scores(payload, [4, 5, 7])


def test_a_trial_must_bring_a_number() -> None:
    check_trial(json.dumps(_event(["token_id:4"], [-1.0])))
    for logprob in (None, float("nan")):
        with pytest.raises(VllmError):
            check_trial(json.dumps(_event(["token_id:4"], [logprob])))


def test_a_reason_is_one_short_line() -> None:
    assert reason_of({"error": {"message": "rank too large\nTraceback"}}) == "rank too large"
    assert len(reason_of({"error": {"message": "x" * 999}})) == 200
    assert reason_of(None) == reason_of({"error": {"message": ""}}) == "no reason given"
