"""The audit log: who changed what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, takewhile

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from homespun_server.access import audit, heads, reading
from homespun_server.console.http.web import allowed, data_of, page, runtime_of
from homespun_server.console.sections import PATH

router = APIRouter()

_SHOWN = 100
_AT_ONCE = 1_000


@router.get(f"{PATH}/audit")
def show(request: Request) -> Response:
    """The last entries before a number, newest first."""
    allowed(request, "audit")
    before = _number(request.query_params.get("before", ""))
    with runtime_of(request).database.connect() as connection:
        newest = next(audit.entries(connection, newest=1), None)
        last = min(newest.number if newest else 0, before - 1 if before else 2**62)
        after = max(0, last - _SHOWN)
        found = list(takewhile(lambda entry: entry.number <= last, audit.entries(connection, after)))
        names = {user.id: user.name for user in reading.all_users(connection)}
    return page(
        request,
        "audit.html",
        "audit",
        entries=list(reversed(found)),
        names=names,
        older=after + 1 if after else None,
        head=newest.digest if newest else None,
    )


@router.get(f"{PATH}/audit/verified")
def verified(request: Request) -> Response:
    """Reads all of it, so only when somebody asks."""
    allowed(request, "audit")
    with runtime_of(request).database.connect() as connection:
        found = audit.verify(connection, heads=heads.read(heads.heads_file(data_of(request))))
    return page(request, "verified.html", "audit", verified=found)


@router.get(f"{PATH}/audit/log.jsonl")
def export(request: Request) -> Response:
    allowed(request, "audit")
    headers = {"Content-Disposition": 'attachment; filename="homespun-audit.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(_lines(request), media_type="application/jsonl", headers=headers)


def _lines(request: Request) -> Iterator[str]:
    after = 0
    while found := _entries_after(request, after):
        yield from (json.dumps(entry.as_json(), ensure_ascii=False) + "\n" for entry in found)
        after = found[-1].number


def _entries_after(request: Request, number: int) -> list[audit.Entry]:
    """Some at a time, so that nobody holds a connection for as long as they take to read."""
    with runtime_of(request).database.connect() as connection:
        return list(islice(audit.entries(connection, number), _AT_ONCE))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
