"""Whatever /openapi.json allows and forbids of the routes about people, the answer is one that it tells of."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from homespun_core.config import Settings
from homespun_core.types import ModelFiles, Tokenizer
from tests.server.access.conftest import Served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
OURS = "^/v1/homespun/(admin/(users|teams|grants|tokens|access|audit)|me)"
TOKEN = "break-glass"
"""Still good when the accounts that are made here by chance are not."""


@pytest.fixture(scope="module")
def api(builtin: ModelFiles, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    data = tmp_path_factory.mktemp("data")
    served = Served(Settings(data_dir=str(data), api_token=TOKEN), builtin, tokenizer)
    served.token("root", "admin")
    server = uvicorn.Server(uvicorn.Config(served.app, port=0, log_level="error", lifespan="off"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=[[listening]])
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/openapi.json"
    yield schemathesis.openapi.from_url(url, headers={"Authorization": f"Bearer {TOKEN}"})
    server.should_exit = True
    thread.join()
    listening.close()
    served.runtime.close()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_what_openapi_says(api: Any, mode: GenerationMode) -> None:
    operations = [found.ok() for found in api.include(path_regex=OURS).get_all_operations()]
    assert len(operations) > 20
    for operation in operations:
        if mode is GenerationMode.POSITIVE or operation.body:
            print(operation.label)
            _ask(operation.as_strategy(generation_mode=mode))


def _ask(cases: SearchStrategy[Any]) -> None:
    @given(case=cases)
    @settings(max_examples=10, phases=[Phase.generate], suppress_health_check=[*HealthCheck], derandomize=True)
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {TOKEN}"})

    ask()
