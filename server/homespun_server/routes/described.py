"""How a route is described in /openapi.json: bodies are read by `dialects`, so FastAPI has to be told of them.

What any route may refuse is added by `openapi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from homespun_server.dialects.schemas import Schema


def asking(summary: str, reply: Schema) -> Mapping[str, Any]:
    """Of a route without a body."""
    return {"summary": summary, "openapi_extra": {"responses": _answered(_json(reply))}}


def telling(reply: Schema, status: int = 200) -> Mapping[str, Any]:
    """Of a route that FastAPI knows but for the fields of its answer."""
    return {"openapi_extra": {"responses": {str(status): {"description": "OK", "content": _json(reply)}}}}


def posting(summary: str, body: Schema, reply: Schema, *, stream: str | None = None) -> Mapping[str, Any]:
    """Of a route with a body; `stream` is the media type of an answer in parts."""
    content = _json(reply) | ({stream: {}} if stream else {})
    described = {"requestBody": {"required": True, "content": _json(body)}, "responses": _answered(content)}
    return {"summary": summary, "openapi_extra": described}


def taking(summary: str, body: Schema) -> Mapping[str, Any]:
    """Of a route with a body that is only taken."""
    described = {"requestBody": {"required": True, "content": _json(body)}, "responses": {"200": {"description": "OK"}}}
    return {"summary": summary, "openapi_extra": described, "response_class": Response}


def _answered(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"200": {"description": "OK", "content": content}}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
