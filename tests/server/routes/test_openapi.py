"""/openapi.json says what the routes do: schemathesis asks whatever it allows and forbids, and checks every answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from homespun_server.dialects.openai import MAX_COMPLETIONS
from tests.server.test_http import Started

ANSWERS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CHECKS = [
    *ANSWERS,
    negative_data_rejection,
    positive_data_acceptance,
]
OURS = (
    "^/(v1/(models|health|completions|fim|engines|events|homespun/events)|v1beta|beta|infill|completions?|props|slots"
    "|health|api/|generate|info|$)"
)


@pytest.fixture(scope="module")
def started(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    data = tmp_path_factory.mktemp("data")
    settings = Settings(data_dir=str(data), completion_deadline_ms=60_000, max_new_tokens=2)
    made = Started(settings, builtin)
    assert made.loaded.wait(60)
    yield made
    made.runtime.close()


@pytest.fixture(scope="module")
def api(started: Started) -> Iterator[Any]:
    """Over a real socket: in process, schemathesis leaves streams open."""
    server = uvicorn.Server(uvicorn.Config(started.app, port=0, log_level="error", lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{listening.getsockname()[1]}/openapi.json")
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_what_openapi_says(api: Any, mode: GenerationMode) -> None:
    for operation in operations(api.include(path_regex=OURS), mode):
        ask(operation.as_strategy(generation_mode=mode), CHECKS, examples=10)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_makes_any_other_route_fail_or_answer_what_openapi_does_not_say(
    api: Any, mode: GenerationMode
) -> None:
    """Signing in, provisioning, people, jobs: nobody has made accounts here, so much is refused before it is looked at
    (`tests/server/access/test_admin_openapi.py` asks as an admin)."""
    for operation in operations(api.exclude(path_regex=OURS), mode):
        ask(operation.as_strategy(generation_mode=mode), ANSWERS, examples=5)


def operations(schema: Any, mode: GenerationMode) -> Iterator[Any]:
    """Without a body there is nothing to get wrong."""
    for found in schema.get_all_operations():
        if mode is GenerationMode.POSITIVE or found.ok().body:
            yield found.ok()


def _is_too_many(body: object) -> bool:
    """Prompts times choices are limited, which no schema can say."""
    match body:
        case {"prompt": list(prompts), "n": int(n) | float(n)}:
            return len(prompts) * n > MAX_COMPLETIONS
    return False


def ask(cases: SearchStrategy[Any], checks: Sequence[Any], *, examples: int) -> None:
    @given(case=cases)
    @settings(max_examples=examples, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
    def one(case: Any) -> None:
        assume(not _is_too_many(case.body))
        case.call_and_validate(checks=checks)

    one()
