"""/openapi.json says what the routes do: schemathesis asks whatever it allows and forbids, and checks every answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_schema_conformance,
    status_code_conformance,
)

from homespun_core.config import Settings
from homespun_core.types import ModelFiles
from tests.server.test_http import Started

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
]
OURS = (
    "^/(v1/(models|health|completions|fim|engines|events|homespun/events)|v1beta|beta|infill|completions?|props|slots"
)
OURS += "|health|api/|generate|info|$)"


@pytest.fixture(scope="module")
def started(builtin: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    data = tmp_path_factory.mktemp("data")
    made = Started(Settings(data_dir=str(data), completion_deadline_ms=60_000, max_new_tokens=2), builtin)
    assert made.loaded.wait(60)
    yield made
    made.runtime.close()


@pytest.fixture(scope="module")
def api(started: Started) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", started.app, headers={"Host": "localhost"})


schema = schemathesis.pytest.from_fixture("api")


@schema.include(path_regex=OURS).parametrize()
@settings(
    max_examples=10, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
)
def test_an_answer_is_what_openapi_says(case: schemathesis.Case) -> None:
    case.call_and_validate(checks=CHECKS, headers={"Host": "localhost"})
