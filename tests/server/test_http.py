"""The HTTP API, in process, on the built-in model."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from homespun_core.config import Settings
from homespun_core.errors import ConfigError, ModelError
from homespun_core.prompt_versions import PromptVersion
from homespun_core.types import ModelFiles
from homespun_server.app import build_app
from homespun_server.engine.protocol import Engine
from homespun_server.runtime import EngineLoader, Runtime, load_torch_engine
from homespun_server.work import Work
from tests.server.conftest import Indexed

TOKEN = "secret-canary-of-16"
BODY = {"prompt": "def add(a, b):\n    return", "max_tokens": 8}


class Started:
    """An app whose parts are loaded, as its lifespan would."""

    def __init__(
        self,
        settings: Settings,
        model: ModelFiles,
        load_engine: EngineLoader = load_torch_engine,
        prompts: Sequence[PromptVersion] = (),
    ) -> None:
        self.app: FastAPI = build_app(settings, model, load_engine, prompts=prompts)
        self.runtime: Runtime = self.app.state.runtime
        self.loaded = threading.Event()
        self.runtime.start(lambda runtime: self.loaded.set())

    def client(self, host: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080", **options)


@pytest.fixture(scope="module")
def started(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")), completion_deadline_ms=60_000)
    made = Started(settings, builtin)
    assert made.loaded.wait(60)
    yield made
    made.runtime.close()


async def _post(started: Started, body: Any, **options: Any) -> httpx.Response:
    async with started.client() as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post("/v1/completions", content=content, **options)


def _error(response: httpx.Response) -> dict[str, Any]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    assert error["message"] and "\n" not in error["message"]
    return dict(error)


async def test_openai_shape(started: Started) -> None:
    response = await _post(started, BODY | {"suffix": "\n", "homespun": {"path": "a.py", "language": "python"}})
    assert response.status_code == 200
    reply = response.json()
    assert reply["id"].startswith("cmpl-") and reply["object"] == "text_completion" and reply["model"] == "homespun"
    (choice,) = reply["choices"]
    assert choice.keys() == {"text", "index", "finish_reason", "logprobs"} and choice["finish_reason"] in (
        "stop",
        "length",
    )
    usage = reply["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert usage["prompt_tokens_details"]["cached_tokens"] >= 0


async def test_tabby_shape(started: Started) -> None:
    segments = {"prefix": "def add(a, b):\n    ", "suffix": "\n", "filepath": "a.py", "clipboard": ""}
    body = {"language": "python", "segments": segments, "debug_options": {"return_snippets": True}, "user": "u"}
    reply = (await _post(started, body)).json()
    assert reply["id"].startswith("cmpl-") and reply["debug_data"] == {"snippets": []}
    assert reply["choices"][0].keys() == {"index", "text"}


async def test_the_same_request_twice_gives_the_same_text_and_is_cached(started: Started) -> None:
    first, second = [(await _post(started, BODY)).json() for _ in range(2)]
    assert first["choices"] == second["choices"]
    usage = second["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1


async def test_a_seed_gives_the_same_sample(started: Started) -> None:
    body = BODY | {"temperature": 1.0, "seed": 7, "homespun": {"raw": True}, "max_tokens": 12}
    first, second = [(await _post(started, body)).json()["choices"][0]["text"] for _ in range(2)]
    other = (await _post(started, body | {"seed": 8})).json()["choices"][0]["text"]
    assert first == second != other


async def test_echo_puts_the_prompt_first(started: Started) -> None:
    plain = (await _post(started, BODY)).json()["choices"][0]["text"]
    assert (await _post(started, BODY | {"echo": True})).json()["choices"][0]["text"] == BODY["prompt"] + plain


@pytest.mark.parametrize("raw", [False, True])
async def test_a_stream_says_what_the_whole_reply_says(started: Started, raw: bool) -> None:
    body = BODY | {"homespun": {"raw": raw}}
    whole = (await _post(started, body)).json()
    response = await _post(started, body | {"stream": True, "stream_options": {"include_usage": True}})
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    *chunks, usage = [json.loads(event) for event in events]
    assert {chunk["id"] for chunk in chunks} == {usage["id"]}
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[" * 200_000, 400, "invalid_json"),
        ({}, 400, "missing_field"),
        ({"prompt": "x", "max_tokens": -5}, 400, "invalid_value"),
        ({"prompt": "x", "stop": ["y"] * 100_000}, 400, "invalid_value"),
        ({"prompt": "x", "best_of": 4}, 400, "unsupported_value"),
        ({"segments": {}}, 400, "missing_field"),
        ({"segments": "x"}, 400, "invalid_value"),
        ({"prompt": "x" * 2_100_000}, 413, "body_too_large"),
    ],
)
async def test_a_bad_body_gets_an_error_in_one_shape(started: Started, body: Any, status: int, code: str) -> None:
    response = await _post(started, body)
    assert response.status_code == status and _error(response)["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": "\0\0\0"},
        {"prompt": "<|fim_middle|><|endoftext|><|repo_name|>"},
        {"prompt": "x = ", "suffix": "y" * 1_000_000, "max_tokens": 10**9},
        {"prompt": "\U0001f600" * 1_000},
        {"prompt": "\r\n" * 1_000},
        {"prompt": "x", "homespun": {"repo": "a\0b", "path": "/" * 5_000, "language": "klingon"}},
    ],
)
async def test_odd_text_is_completed_like_any_other(started: Started, body: dict[str, Any]) -> None:
    response = await _post(started, {"max_tokens": 2} | body)
    assert response.status_code == 200, response.text


async def test_half_a_surrogate_pair_is_completed(started: Started) -> None:
    assert (await _post(started, rb'{"prompt": "s = \"\ud83d", "max_tokens": 2}')).status_code == 200


async def test_models_health_readiness_and_metrics(started: Started) -> None:
    async with started.client() as client:
        assert [m["id"] for m in (await client.get("/v1/models")).json()["data"]] == ["homespun"]
        assert (await client.get("/healthz")).json() == {"alive": True}
        ready = await client.get("/readyz")
        metrics = (await client.get("/metrics")).text
    assert ready.status_code == 200
    state = ready.json()
    assert state["ready"] and state["dtype"] == "int8" and state["repositories"] == [] and state["family"] == "homespun"
    assert "homespun_completions_total" in metrics and "homespun_queue_depth 0.0" in metrics


async def test_a_metric_says_why_live_indexes_were_built(builtin: ModelFiles, indexed: Indexed, tmp_path: Path) -> None:
    shutil.copytree(indexed.data.index_root, tmp_path / "index")
    started = Started(Settings(data_dir=str(tmp_path)), builtin)
    assert started.loaded.wait(60)
    async with started.client() as client:
        metrics = (await client.get("/metrics")).text
    assert 'homespun_indexes_total{state="missing"} 1.0' in metrics
    started.runtime.close()


@pytest.mark.parametrize("name", ["homespun_completion_duration", "homespun_ttft", "homespun_retrieval"])
async def test_times_are_counted_from_five_milliseconds_to_five_seconds(started: Started, name: str) -> None:
    await _post(started, BODY)
    async with started.client() as client:
        metrics = (await client.get("/metrics")).text
    edges = [float(edge) for edge in re.findall(rf'^{name}_seconds_bucket{{le="([^"]+)"', metrics, re.MULTILINE)]
    assert min(edges) == 0.005 and sorted(set(edges))[-2:] == [5.0, float("inf")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"])
async def test_what_a_body_is_its_path_says(started: Started, kind: str) -> None:
    """Dialects read JSON, whatever it is called: some clients call it nothing. What changes something doesn't."""
    async with started.client() as client:
        headers, json_text = {"Content-Type": kind}, json.dumps(BODY | {"max_tokens": 2})
        completed = await client.post("/v1/completions", content=json_text, headers=headers)
        odd = await client.post("/v1/completions", content="prompt=x", headers=headers)
        team = '{"name": "weavers"}'
        refused = await client.post("/v1/homespun/admin/teams", content=team, headers=headers)
        teams = (await client.get("/v1/homespun/admin/teams")).json()
    assert completed.status_code == 200 and completed.json()["choices"]
    assert odd.status_code == 400 and _error(odd)["code"] == "invalid_json"
    assert refused.status_code == 400 and _error(refused)["code"] == "invalid_value" and teams == []


async def test_an_unknown_path_or_method_is_said_in_the_same_shape(started: Started) -> None:
    async with started.client() as client:
        assert _error(await client.get("/v1/nothing"))["code"] == "not_found"
        assert _error(await client.get("/v1/completions"))["code"] == "method_not_allowed"


@pytest.mark.parametrize(("host", "status"), [("localhost", 200), ("[::1]", 200), ("evil.example.com", 400)])
async def test_a_loopback_server_refuses_other_host_names(started: Started, host: str, status: int) -> None:
    """A web page whose name was made to point to 127.0.0.1 sends its own name."""
    async with started.client(host) as client:
        assert (await client.get("/readyz")).status_code == status


async def test_no_web_page_is_allowed_in(started: Started) -> None:
    async with started.client() as client:
        response = await client.options("/v1/completions", headers={"Origin": "https://evil.example.com"})
        for origin in ("https://evil.example.com", "null", ""):
            posted = await client.post("/v1/completions", content="{}", headers={"Origin": origin})
            assert posted.status_code == 403 and _error(posted)["code"] == "foreign_origin"
        assert (await client.get("/readyz", headers={"Origin": "http://localhost:3000"})).status_code == 200
    assert not any(name.startswith("access-control") for name in response.headers)


async def test_a_token_is_asked_for_everywhere_but_for_whether_it_is_alive_and_ready(
    builtin: ModelFiles, tmp_path: Path
) -> None:
    started = Started(Settings(data_dir=str(tmp_path), host="0.0.0.0", api_token=TOKEN), builtin)
    assert started.loaded.wait(60)
    async with started.client("homespun.example.com") as client:
        assert (await client.get("/healthz")).status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
            assert (await client.get("/readyz", headers=headers)).json() == {"ready": True}
            response = await client.get("/v1/models", headers=headers)
            assert response.status_code == 401 and _error(response)["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        ready = await client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
        assert ready.json()["base_model"] == "builtin"
        assert (await client.get("/metrics", headers={"authorization": f"bearer {TOKEN}"})).status_code == 200
    started.runtime.close()


def test_listening_to_a_network_without_a_token_is_refused(builtin: ModelFiles) -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "homespun.example.com"):
        with pytest.raises(ConfigError, match="HOMESPUN_API_TOKEN"):
            build_app(Settings(host=host), builtin)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        build_app(Settings(host=host), builtin)


async def test_while_the_model_loads_completions_are_told_to_come_back(builtin: ModelFiles, tmp_path: Path) -> None:
    go_on = threading.Event()

    def slowly(model: ModelFiles, settings: Settings) -> Engine:
        assert go_on.wait(20)
        return load_torch_engine(model, settings)

    started = Started(Settings(data_dir=str(tmp_path)), builtin, slowly)
    async with started.client() as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.status_code == 503 and not ready.json()["ready"]
        response = await client.post("/v1/completions", json=BODY)
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert "loading" in _error(response)["message"]
        go_on.set()
        assert started.loaded.wait(60)
        assert (await client.get("/readyz")).status_code == 200
    started.runtime.close()


async def test_a_model_that_cannot_be_loaded_is_said_by_readyz(builtin: ModelFiles, tmp_path: Path) -> None:
    def failing(model: ModelFiles, settings: Settings) -> Engine:
        raise ModelError("base_model: it is made of cheese")

    started = Started(Settings(data_dir=str(tmp_path)), builtin, failing)
    assert started.loaded.wait(20)
    async with started.client() as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503 and "cheese" in ready.json()["error"]
    started.runtime.close()


async def test_a_bug_is_one_line_to_the_client(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> Callable[..., None]:
        raise ZeroDivisionError("secret detail")

    assert started.runtime.loaded is not None
    monkeypatch.setattr(started.runtime.loaded.completer, "_begin", broken)
    response = await _post(started, BODY)
    assert response.status_code == 500 and _error(response)["code"] == "internal_error"
    assert "secret" not in response.text


async def test_a_place_that_waits_to_be_prepared_holds_none_of_those_for_completions(
    builtin: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    started = Started(Settings(data_dir=str(tmp_path), max_requests=1, completion_deadline_ms=60_000), builtin)
    assert started.loaded.wait(60) and started.runtime.loaded is not None
    completer = started.runtime.loaded.completer
    prepare, is_there, may_go_on = completer._prepare, asyncio.Event(), asyncio.Event()

    async def waiting(work: Work) -> None:
        if work.priority == "warm":
            is_there.set()
            await may_go_on.wait()
        await prepare(work)

    monkeypatch.setattr(completer, "_prepare", waiting)
    async with started.client() as client:
        warm = asyncio.create_task(client.post("/v1/completions", json=BODY | {"max_tokens": 0}))
        await is_there.wait()
        one = await client.post("/v1/completions", json=BODY)
        another_warm = await client.post("/v1/completions", json=BODY | {"max_tokens": 0})
        may_go_on.set()
        prepared = await warm
        metrics = (await client.get("/metrics")).text
    started.runtime.close()
    assert (one.status_code, another_warm.status_code, prepared.status_code) == (200, 429, 200)
    assert another_warm.headers["Retry-After"] == "1"
    assert 'homespun_prepared_total{outcome="shed"} 1.0' in metrics


async def test_a_full_queue_is_429_with_a_time_to_come_back(builtin: ModelFiles, tmp_path: Path) -> None:
    import asyncio

    started = Started(Settings(data_dir=str(tmp_path), max_queue=1, max_running=1, target_ms=1_000_000), builtin)
    assert started.loaded.wait(60)
    async with started.client() as client:
        jobs = [client.post("/v1/completions", json=BODY | {"max_tokens": 64, "stream": n % 2 > 0}) for n in range(12)]
        responses = await asyncio.gather(*jobs)
    refused = [r for r in responses if r.status_code == 429]
    assert refused and {r.status_code for r in responses} == {200, 429}
    for response in refused:
        assert int(response.headers["retry-after"]) >= 1 and _error(response)["code"] == "too_many_requests"
    started.runtime.close()
