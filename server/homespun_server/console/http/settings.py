"""The settings, to read: they are changed where they come from."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_server.console import settings
from homespun_server.console.http.web import allowed, page, runtime_of
from homespun_server.console.sections import PATH

router = APIRouter()


@router.get(f"{PATH}/settings")
def show(request: Request) -> Response:
    allowed(request, "settings")
    found = settings.effective(runtime_of(request).settings, request.app.state.origins)
    return page(request, "settings.html", "settings", settings=found)
