"""One completion taken apart, for `homespun explain`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from homespun_server.access.http import bound, charge, demand
from homespun_server.console import playground
from homespun_server.explained import Layer, ladder
from homespun_server.routes.answering import MAX_BODY_BYTES, loaded_of

router = APIRouter(prefix="/v1/homespun", tags=["oneself"])


class Wanted(BaseModel):
    prefix: str = Field(max_length=MAX_BODY_BYTES)
    suffix: str = Field("", max_length=MAX_BODY_BYTES)
    path: str | None = Field(None, max_length=4_096)
    repo: str | None = Field(None, max_length=4_096)
    """Name, path or URL."""
    without: list[Layer] = Field([], max_length=8)


@router.post("/explain")
async def explain(request: Request, wanted: Wanted) -> dict[str, Any]:
    """A completion by the base model, then with one layer of code after the other: texts, times, snippets, prompt. It
    is no usage; against limits it counts as the completions that it makes."""
    demand(request, "complete")
    completer, layers = loaded_of(request).completer, ladder(wanted.without)
    asked = bound(request, playground.request_at(wanted.path, wanted.prefix, wanted.suffix, wanted.repo))
    charge(request, len(layers) - 1)
    return playground.as_json(asked, [await completer.explain(asked, one) for one in layers])
