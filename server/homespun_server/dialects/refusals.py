"""Errors with the fields that the clients of each dialect read. Which dialect it is, the path says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    status: int
    message: str
    type: str
    """OpenAI's word for it."""
    code: str
    param: str | None = None


def refusal_body(refusal: Refusal, path: str) -> object:
    return _SHAPES.get(path, _openai)(refusal)


def error_body(message: str, *, type: str, code: str, param: str | None = None) -> dict[str, object]:
    """OpenAI's, which everything speaks that isn't another dialect's."""
    return {"error": {"message": message, "type": type, "code": code, "param": param}}


def _openai(refusal: Refusal) -> object:
    return error_body(refusal.message, type=refusal.type, code=refusal.code, param=refusal.param)


def _mistral(refusal: Refusal) -> object:
    return {
        "object": "error",
        "message": refusal.message,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
        "detail": refusal.message,
    }


_LLAMA_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    503: "unavailable_error",
}


def _llama(refusal: Refusal) -> object:
    kind = _LLAMA_TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    return {"error": {"code": refusal.status, "message": refusal.message, "type": kind}}


def _ollama(refusal: Refusal) -> object:
    return {"error": refusal.message}


_TGI_TYPES = {429: "overloaded", 500: "generation", 503: "overloaded"}


def _tgi(refusal: Refusal) -> object:
    return {"error": refusal.message, "error_type": _TGI_TYPES.get(refusal.status, "validation")}


_SHAPES: Mapping[str, Callable[[Refusal], object]] = {
    "/v1/fim/completions": _mistral,
    "/infill": _llama,
    "/completion": _llama,
    "/completions": _llama,
    "/props": _llama,
    "/slots": _llama,
    "/health": _llama,
    "/api/generate": _ollama,
    "/api/show": _ollama,
    "/api/tags": _ollama,
    "/api/ps": _ollama,
    "/api/version": _ollama,
    "/generate": _tgi,
    "/generate_stream": _tgi,
    "/info": _tgi,
    "/": _tgi,
}
