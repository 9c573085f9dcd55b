"""Puts the console into an application."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from homespun_server.console.http import (
    adapters,
    assets,
    audit,
    jobs,
    overview,
    people,
    playground,
    repositories,
    settings,
    tokens,
    usage,
)
from homespun_server.console.sections import PATH


def install(app: FastAPI) -> None:
    """Refusals become pages by `pages.http.include_errors`."""
    parts = (assets, overview, repositories, adapters, jobs, playground, usage, tokens, people, audit, settings)
    for part in parts:
        app.include_router(part.router, include_in_schema=False)
    app.add_api_route("/", _front_door, methods=["GET"], include_in_schema=False)


def _front_door(request: Request) -> Response:
    """People with a browser come to the console; a program that tries the address learns what answers."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(PATH, status_code=302)
    return Response("Homespun\n", media_type="text/plain")
