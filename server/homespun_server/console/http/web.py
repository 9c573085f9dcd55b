"""What the console's routes share: who asks, whether they may, forms, and how a page is made."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.paths import DataDir
from homespun_server.access.http import principal_of
from homespun_server.access.principal import Principal
from homespun_server.console.http.assets import SCRIPT_URL, STYLE_URL
from homespun_server.console.sections import may_see, sections_of
from homespun_server.console.words import FILTERS
from homespun_server.pages.http import Pages, message_page
from homespun_server.runtime import Runtime

_MAX_FORM_BYTES = 1_000_000
"""The playground sends a file."""
_MAX_FIELDS = 50

_PAGES = Pages(Path(__file__).parent.parent / "templates", FILTERS)


class RefusalError(Exception):
    """A request that ends in a page that says why."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(text)
        self.status, self.title, self.text = status, title, text


def runtime_of(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def data_of(request: Request) -> DataDir:
    return DataDir(runtime_of(request).settings.data_root)


def allowed(request: Request, section: str) -> Principal:
    """Who asks. Raises RefusalError where this part of the console isn't theirs."""
    who = principal_of(request)
    if not may_see(who, section):
        raise RefusalError(
            403, "Not for you", "Your role doesn’t have this part of the console; an admin can change it."
        )
    return who


def not_found(what: str) -> RefusalError:
    """Also for what there is and may not be read: whoever asks mustn't learn the difference."""
    return RefusalError(404, "Not found", f"There is no such {what}, or it isn’t yours to read.")


def page(request: Request, template: str, section: str, *, status: int = 200, **values: Any) -> Response:
    who = principal_of(request)
    shared = {"who": who, "sections": sections_of(who), "section": section, "said": _said(request)}
    urls = {"script_url": SCRIPT_URL, "console_style_url": STYLE_URL}
    return _PAGES.page(request, template, status=status, **shared, **urls, **values)


async def form_of(request: Request) -> Mapping[str, str]:
    """The fields of a form that one of our own pages sent. Raises RefusalError for any other."""
    if not _is_from_here(request.headers):
        raise RefusalError(403, "Refused", "This form was sent by a page of another site.")
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise RefusalError(415, "Refused", "A form is sent as application/x-www-form-urlencoded.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_FORM_BYTES:
            raise RefusalError(413, "Too much", f"A form may have {_MAX_FORM_BYTES:,} bytes; send less of the file.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="replace")
    except ValueError:
        raise RefusalError(400, "Refused", "The form can’t be read.") from None
    fields = {name: value.replace("\r\n", "\n") for name, value in pairs}
    session = getattr(request.state, "session", None)
    if session is not None and not secrets.compare_digest(fields.get("csrf", "").encode(), session.csrf.encode()):
        raise RefusalError(403, "Refused", "The page was too old. Go back, reload it and try again.")
    return fields


Form = Annotated[Mapping[str, str], Depends(form_of)]
"""For handlers that aren't coroutines: they wait for locks and disks."""


def back_to(path: str, said: str) -> Response:
    """After a form: the page that shows what came of it, so that a reload doesn't send it again."""
    return RedirectResponse(f"{path}?said={said}", status_code=303)


_SAID = {
    "approve": "The candidate is the champion now.",
    "reject": "The candidate was rejected.",
    "rollback": "Rolled back.",
    "pin": "The champion is pinned.",
    "unpin": "The champion is no longer pinned.",
    "promote": "That version is the champion now.",
    "index": "Whoever watches this repository looks for news now.",
}


def _said(request: Request) -> str | None:
    """Known sentences only: a link mustn't put words into our mouth."""
    return _SAID.get(request.query_params.get("said", ""))


def _is_from_here(headers: Mapping[str, str]) -> bool:
    """Browsers say where a form comes from, all of them in Origin, newer ones in Sec-Fetch-Site. Another port of this
    machine is another site."""
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


async def refusal_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return message_page(request, error.title, error.text, status=error.status)
