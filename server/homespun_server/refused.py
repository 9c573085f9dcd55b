"""A refusal as a response, in the shape that the clients of its path read."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

from homespun_server.dialects.refusals import Refusal, refusal_body


def refused(
    path: str,
    status: int,
    message: str,
    type: str,
    code: str,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    refusal = Refusal(status=status, message=message, type=type, code=code, param=param)
    return JSONResponse(refusal_body(refusal, path), status_code=status, headers=headers)
