"""Errors with the fields that the clients of each dialect read. Which dialect it is, the path says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    status: int
    message: str
    type: str
    """OpenAI's word for it."""
    code: str
    param: str | None = None


Dialect = Literal["openai", "mistral", "llama.cpp", "ollama", "tgi"]


def dialect_of(path: str) -> Dialect:
    return _PATHS.get(path, "openai")


def refusal_body(refusal: Refusal, path: str) -> object:
    return _SHAPES[dialect_of(path)](refusal)


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


_SHAPES: Mapping[Dialect, Callable[[Refusal], object]] = {
    "openai": _openai,
    "mistral": _mistral,
    "llama.cpp": _llama,
    "ollama": _ollama,
    "tgi": _tgi,
}
_PATHS: Mapping[str, Dialect] = {
    "/v1/fim/completions": "mistral",
    **dict.fromkeys(("/infill", "/completion", "/completions", "/props", "/slots", "/health"), "llama.cpp"),
    **dict.fromkeys(("/api/generate", "/api/show", "/api/tags", "/api/ps", "/api/version"), "ollama"),
    **dict.fromkeys(("/generate", "/generate_stream", "/info", "/"), "tgi"),
}
