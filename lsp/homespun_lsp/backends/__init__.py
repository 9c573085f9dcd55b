"""The kinds of servers that can be asked for completions, by the name the option `backend` has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from homespun_lsp.backends import deepseek, homespun, llamacpp, mistral, ollama, openai, tabby
from homespun_lsp.backends.exchange import Backend

AUTO, HOMESPUN = "auto", "homespun"
BACKENDS: Mapping[str, Backend] = {
    HOMESPUN: homespun,
    "openai": openai,
    "llama.cpp": llamacpp,
    "mistral": mistral,
    "deepseek": deepseek,
    "ollama": ollama,
    "tabby": tabby,
}
_OWNERS = {
    "homespun": HOMESPUN,
    "llamacpp": "llama.cpp",
    "library": "ollama",
    "mistralai": "mistral",
    "deepseek": "deepseek",
}
"""What servers put in `owned_by` of their models. All others that list models speak OpenAI's completions."""


@dataclass(frozen=True, slots=True)
class Recognised:
    backend: str
    model: str = ""


def recognise(models: object) -> Recognised | None:
    """From the body of GET /v1/models; None where it is no list of models."""
    match models:
        case {"data": [{"id": str(model), **first}, *_]}:
            return Recognised(_OWNERS.get(str(first.get("owned_by")), "openai"), model)
    return None


def is_tabby(health: object) -> bool:
    """From the body of GET /v1/health; Tabby lists no models where OpenAI does."""
    match health:
        case {"model": str(_), "version": {}}:
            return True
    return False
