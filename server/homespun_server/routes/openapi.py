"""What holds for every route of /openapi.json, so that no route has to say it again. Pure."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from homespun_server.dialects.refusals import dialect_of
from homespun_server.dialects.schemas import ERRORS

_ALWAYS = {
    "400": "What was sent makes no sense.",
    "401": "A valid token or session is needed.",
    "403": "This token or user may not do that, or the request is another site's.",
    "404": "There is none, or none that may be seen.",
    "429": "Too many requests; Retry-After says how long to wait.",
    "503": "Not ready; worth trying again.",
}
_OF_BODIES = {"413": "The body is too large."}
_OF_SCIM = {"409": "Somebody else has that name.", "413": "The body is too large.", "415": "That is no SCIM."}
_SCIM = "application/scim+json"
_BEARER = {"type": "http", "scheme": "bearer", "description": "Not needed on a server without accounts and a token."}


def install(app: FastAPI) -> None:
    plain = app.openapi
    app.openapi = lambda: completed(plain())  # type: ignore[method-assign]  # as FastAPI's documentation does


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """With the refusals that any route may give; in place, and the same when done twice."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/scim/") and method in ("post", "put", "patch"):
                operation["requestBody"] = {"required": True, "content": {_SCIM: {"schema": {"type": "object"}}}}
            _complete(path, operation)
    document.setdefault("components", {}).setdefault("securitySchemes", {})["bearer"] = _BEARER
    document["security"] = [{}, {"bearer": []}]
    return document


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own; here that is a 400, in the shape of all others
    has_body = "requestBody" in operation
    problems = _ALWAYS | (_OF_BODIES if has_body else {}) | (_OF_SCIM if path.startswith("/scim/") else {})
    for code, text in problems.items():
        responses.setdefault(code, {"description": text, "content": _refusal(path)})
    if path.startswith("/scim/"):
        for response in responses.values():
            if "content" in response:
                response["content"] = {_SCIM: {"schema": {"type": "object"}}}


def _refusal(path: str) -> dict[str, Any]:
    """OAuth and SCIM have shapes of their own for it, but for what is refused before their routes are reached."""
    if path.startswith("/oauth/"):
        return {"application/json": {"schema": {"type": "object", "required": ["error"]}}}
    return {"application/json": {"schema": ERRORS[dialect_of(path)]}}
