"""One completion taken apart, for `homespun explain`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from homespun_server.access.http import bound, charge, demand
from homespun_server.console import playground
from homespun_server.dialects.schemas import COUNT, FLAG, NUMBER, TEXT, listed, optional, reply
from homespun_server.explained import Layer, ladder
from homespun_server.routes.answering import MAX_BODY_BYTES, loaded_of
from homespun_server.routes.described import telling

router = APIRouter(prefix="/v1/homespun", tags=["oneself"])


class Wanted(BaseModel):
    prefix: str = Field(max_length=MAX_BODY_BYTES)
    suffix: str = Field("", max_length=MAX_BODY_BYTES)
    path: str | None = Field(None, max_length=4_096)
    repo: str | None = Field(None, max_length=4_096)
    """Name, path or URL."""
    without: list[Layer] = Field([], max_length=8)


_SNIPPET = reply(path=TEXT, start_line=COUNT, score=NUMBER, why=TEXT, shared=listed(TEXT), text=TEXT)
_ARM = reply(
    title=TEXT,
    layers=reply(snippets=FLAG, datastore=FLAG, adapter=FLAG),
    text=TEXT,
    finish_reason=TEXT,
    adapter=optional(TEXT),
    degraded=listed(TEXT),
    timings=reply(retrieve_ms=NUMBER, queue_ms=NUMBER, prefill_ms=NUMBER, decode_ms=NUMBER, total_ms=NUMBER),
    stats=optional({"type": "object"}),
)
_EXPLAINED = reply(
    path=optional(TEXT),
    repository=optional(TEXT),
    prompt_version=optional(TEXT),
    arms=listed(_ARM),
    compared=listed(reply(title=TEXT, values=listed(TEXT))),
    snippets=listed(_SNIPPET),
    prompt_tokens=COUNT,
    prompt=listed(reply(text=TEXT, is_control=FLAG)),
    opening=TEXT,
)


@router.post("/explain", **telling(_EXPLAINED))
async def explain(request: Request, wanted: Wanted) -> dict[str, Any]:
    """A completion by the base model, then with one layer of code after the other: texts, times, snippets, prompt. It
    is no usage; against limits it counts as the completions that it makes."""
    demand(request, "complete")
    completer, layers = loaded_of(request).completer, ladder(wanted.without)
    asked = bound(request, playground.request_at(wanted.path, wanted.prefix, wanted.suffix, wanted.repo))
    charge(request, len(layers) - 1)
    return playground.as_json(asked, [await completer.explain(asked, one) for one in layers])
