"""Whoever shows no token, or asks too often, is told so in the fields that the clients of that path read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from homespun_core.config import Settings
from homespun_core.types import ModelFiles, Tokenizer
from homespun_server.access import gate
from homespun_server.routes import completions
from tests.server.access.conftest import Served

Shape = Callable[[int, Any], bool]


def _openai(status: int, told: Any) -> bool:
    error = told["error"]
    kind = {401: "authentication_error", 429: "rate_limit_error"}[status]
    return bool(error["message"] and error["code"]) and error["type"] == kind and error["param"] is None


def _mistral(status: int, told: Any) -> bool:
    return bool(told["message"]) and told["object"] == "error" and told["detail"] == told["message"]


def _llama(status: int, told: Any) -> bool:
    error = told["error"]
    kind = {401: "authentication_error", 429: "invalid_request_error"}[status]  # it has no word for the latter
    return bool(error["message"]) and (error["code"], error["type"]) == (status, kind)


def _ollama(status: int, told: Any) -> bool:
    return isinstance(told["error"], str) and told.keys() == {"error"}


def _tgi(status: int, told: Any) -> bool:
    return isinstance(told["error"], str) and told["error_type"] == {401: "validation", 429: "overloaded"}[status]


SHAPES: Mapping[str, Shape] = {
    **dict.fromkeys(("/v1/completions", "/beta/completions", "/v1/engines/{engine}/completions"), _openai),
    "/v1/fim/completions": _mistral,
    **dict.fromkeys(("/infill", "/completion", "/completions"), _llama),
    "/api/generate": _ollama,
    **dict.fromkeys(("/generate", "/generate_stream", "/"), _tgi),
}


@pytest.fixture(scope="module")
def strict(
    builtin: ModelFiles, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, str]]:
    """A server where nobody may ask for anything more, and a token of somebody's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: 0.0))  # nothing fills up again meanwhile
        settings = Settings(data_dir=str(tmp_path_factory.mktemp("data")), requests_per_minute=1)
        served = Served(settings, builtin, tokenizer)
        yield served, served.token("ada")
        served.runtime.close()


def test_every_route_that_completes_has_a_shape_here() -> None:
    assert SHAPES.keys() == {getattr(route, "path", None) for route in completions.router.routes}


@pytest.mark.parametrize("path", SHAPES)
async def test_who_shows_no_token_reads_it_in_their_dialect(strict: tuple[Served, str], path: str) -> None:
    answer = await strict[0].ask("POST", path, json={"prompt": "x"})
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert SHAPES[path](401, answer.json()), answer.text


@pytest.mark.parametrize("path", SHAPES)
async def test_who_asks_too_often_reads_it_in_their_dialect(strict: tuple[Served, str], path: str) -> None:
    served, token = strict
    await served.ask("GET", "/v1/models", token)
    answer = await served.ask("POST", path, token, json={"prompt": "x"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert SHAPES[path](429, answer.json()), answer.text
