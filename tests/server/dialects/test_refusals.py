from __future__ import annotations

from typing import Any, cast

import pytest

from homespun_server.dialects.refusals import Refusal, refusal_body

BUSY = Refusal(status=429, message="full", type="rate_limit_error", code="too_many_requests")


def body(path: str, refusal: Refusal = BUSY) -> dict[str, Any]:
    return cast(dict[str, Any], refusal_body(refusal, path))


@pytest.mark.parametrize("path", ["/v1/completions", "/beta/completions", "/v1/models", "/nowhere"])
def test_openai_is_spoken_wherever_nothing_else_is(path: str) -> None:
    error = {"message": "full", "type": "rate_limit_error", "code": "too_many_requests", "param": None}
    assert body(path) == {"error": error}


def test_each_dialect_has_its_own_fields() -> None:
    assert body("/api/generate") == {"error": "full"}
    assert body("/generate") == {"error": "full", "error_type": "overloaded"}
    assert body("/v1/fim/completions")["message"] == body("/v1/fim/completions")["detail"] == "full"
    assert body("/infill") == {"error": {"code": 429, "message": "full", "type": "invalid_request_error"}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (413, "invalid_request_error"),
        (500, "server_error"),
        (503, "unavailable_error"),
    ],
)
def test_llama_cpp_names_kinds_by_status(status: int, kind: str) -> None:
    refusal = Refusal(status=status, message="m", type="t", code="c")
    assert body("/completion", refusal)["error"]["type"] == kind
