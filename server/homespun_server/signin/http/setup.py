"""Setting up in a browser: the first admin, with the code that the server printed."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.errors import ConfigError
from homespun_server.pages.forms import Form, form
from homespun_server.pages.http import HEADERS
from homespun_server.signin.http.doors import PAGES, base_url, origin_of, service_of, set_cookie
from homespun_server.signin.setup import SetUp

PATH = "/setup"
router = APIRouter(include_in_schema=False)


@router.get(PATH)
def show(request: Request) -> Response:
    return _shown(request) if _open(request) else _closed(request)


@router.post(PATH)
def make(request: Request, fields: Annotated[Form, Depends(form)]) -> Response:
    """Shows the token in the answer itself, which is never repeated: it is stored nowhere."""
    service, setup = service_of(request), _open(request)
    if setup is None:
        return _closed(request)
    if not service.tries.allows(origin_of(request)):
        return _shown(request, fields, "Too many tries; wait a minute.", status=429)
    if not setup.is_code(fields.get("code", "")):
        return _shown(request, fields, "That isn’t the code that this server printed.", status=401)
    try:
        email = fields.get("email", "").strip() or None
        user, token = service.first_admin(setup, fields.get("name", ""), email, origin_of(request))
    except ConfigError as error:
        return _shown(request, fields, f"{error}.", status=400)
    page = PAGES.page(request, "setup_done.html", user=user, token=token.text, url=base_url(request))
    cookie = service.sessions.start(user.id, token.id)
    set_cookie(page, service, service.cookie_name, cookie, service.longest_s)
    return page


def _open(request: Request) -> SetUp | None:
    setup = service_of(request).setup
    return setup if setup is not None and setup.is_open else None


def _shown(request: Request, fields: Form | None = None, error: str | None = None, status: int = 200) -> Response:
    filled = {name: (fields or {}).get(name, "") for name in ("code", "name", "email")}
    return PAGES.page(request, "setup.html", status=status, fields=filled, error=error)


def _closed(request: Request) -> Response:
    if service_of(request).setup is None:
        return RedirectResponse("/console", status_code=303, headers=HEADERS)
    return PAGES.page(
        request,
        "again.html",
        status=410,
        title="Set up already, or too late",
        why="The code counts once, and for an hour. Is there no admin yet? The server prints another when it starts.",
        again="/console",
    )
