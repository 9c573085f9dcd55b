"""The playground: one completion taken apart, with one layer of personalisation after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core.errors import HomespunError
from homespun_server.access.http import TooOftenError, bound, charge
from homespun_server.console import playground
from homespun_server.console.http.repositories import repositories_of
from homespun_server.console.http.web import Form, allowed, page, runtime_of
from homespun_server.console.sections import PATH
from homespun_server.explained import LADDER

router = APIRouter()


@router.get(f"{PATH}/playground")
def show(request: Request) -> Response:
    return _shown(request, playground.EXAMPLE)


@router.post(f"{PATH}/playground")
async def explain(request: Request, form: Form) -> Response:
    allowed(request, "playground")
    loaded = runtime_of(request).loaded
    if loaded is None:
        return _shown(request, form, status=503, error="The base model is still loading; try again in a moment.")
    wanted = bound(request, playground.request_of(form))
    try:
        charge(request, len(LADDER) - 1)
        # One after the other: side by side they would share the machine, and no time would mean anything.
        ladder = [await loaded.completer.explain(wanted, layers) for layers in LADDER]
    except HomespunError as error:
        return _shown(request, form, status=503, error=str(error))
    except TooOftenError:
        return _shown(request, form, status=429, error="That were too many completions in a minute; try again in one.")
    last = ladder[-1]
    return _shown(
        request,
        form,
        ladder=ladder,
        rows=playground.compared(ladder),
        last=last,
        chosen=playground.chosen(wanted, last.completion.snippets),
    )


def _shown(request: Request, form: Mapping[str, str], *, status: int = 200, **values: Any) -> Response:
    who = allowed(request, "playground")
    shared: dict[str, Any] = {"error": None, "ladder": [], "rows": [], "last": None, "chosen": []}
    found = {r.id: r.name for r in repositories_of(request, who) if r.state == "served"}
    fields = {name: form.get(name, "").replace("\r\n", "\n") for name in playground.EXAMPLE}
    return page(
        request, "playground.html", "playground", status=status, repositories=found, form=fields, **(shared | values)
    )
