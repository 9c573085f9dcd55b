"""Renders pages, and serves the stylesheet. Who has pages extends `base.html` in a folder of their own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from homespun_server.pages.forms import PageError

logger = logging.getLogger(__name__)

PATH = "/assets"
_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_bytes()
_STYLE_URL = f"{PATH}/style.css?{hashlib.sha256(_STYLE).hexdigest()[:12]}"

HEADERS = {
    # Nothing inline, nothing from elsewhere. Forms go to us alone, so signing in elsewhere starts with a link.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # not no-referrer: browsers then send "Origin: null" with our own forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

router = APIRouter(include_in_schema=False)


@router.get(f"{PATH}/style.css")
def style() -> Response:
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(_STYLE, media_type="text/css", headers=headers)


class Pages:
    """Templates of one folder, and the layout. Everything put into them is escaped."""

    def __init__(self, folder: Path, filters: Mapping[str, Callable[..., str]] | None = None) -> None:
        self._templates = Environment(
            loader=FileSystemLoader([folder, _HERE]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= filters or {}

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """The layout knows who looks (`viewer`, None for strangers) and the token their forms must carry (`csrf`)."""
        session = getattr(request.state, "session", None)
        shared = {
            "style_url": _STYLE_URL,
            "path": request.url.path,
            "viewer": getattr(request.state, "principal", None) if session else None,
            "csrf": session.csrf if session else "",
        }
        html = self._templates.get_template(template).render(shared | values)
        return HTMLResponse(html, status_code=status, headers=HEADERS)


_OWN = Pages(_HERE)


def message_page(request: Request, title: str, *paragraphs: str, status: int = 200) -> HTMLResponse:
    """What happened, and what to do: for refusals, and for what is done."""
    return _OWN.page(request, "message.html", status=status, title=title, paragraphs=paragraphs)


def include_errors(app: FastAPI) -> None:
    """Refusals of forms become pages, and so does a database that is away."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, PageError)
        return _shown(request, error)

    async def away(request: Request, error: Exception) -> Response:
        logger.warning("%s: the database fails (%s)", request.url.path, type(error).__name__)
        answer = _shown(request, PageError(503, "The database can’t be reached", "Try again in a moment."))
        answer.headers["Retry-After"] = "5"
        return answer

    app.add_exception_handler(PageError, refused)
    app.add_exception_handler(OperationalError, away)
    app.add_exception_handler(NoConnectionError, away)  # all of them wait


def _shown(request: Request, error: PageError) -> Response:
    """Programs get OAuth's form of it, since nobody else sends them any."""
    if "text/html" in request.headers.get("accept", ""):
        return message_page(request, error.title, *error.paragraphs, status=error.status)
    word = "temporarily_unavailable" if error.status >= 500 else "invalid_request"
    body = {"error": word, "error_description": " ".join([f"{error.title}.", *error.paragraphs])}
    return JSONResponse(body, status_code=error.status, headers=HEADERS)
