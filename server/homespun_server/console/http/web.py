"""What the console's routes share: who asks, whether they may, and how a page is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.paths import DataDir
from homespun_server.access.audit import Actor
from homespun_server.access.desk import anybody, note_refusal
from homespun_server.access.http import principal_of
from homespun_server.access.principal import Principal
from homespun_server.console.http.assets import SCRIPT_URL, STYLE_URL
from homespun_server.console.sections import may_see, sections_of, takes
from homespun_server.console.words import FILTERS
from homespun_server.pages.forms import PageError, form
from homespun_server.pages.http import HEADERS, Pages
from homespun_server.runtime import Runtime

_PAGES = Pages(Path(__file__).parent.parent / "templates", FILTERS)

Form = Annotated[Mapping[str, str], Depends(form)]
"""The fields of a form of ours, for handlers that aren't coroutines: they wait for locks and disks."""


def runtime_of(request: Request) -> Runtime:
    runtime = request.app.state.runtime
    assert isinstance(runtime, Runtime)
    return runtime


def data_of(request: Request) -> DataDir:
    return DataDir(runtime_of(request).settings.data_root)


def is_recording(request: Request) -> bool:
    """Whether anything is remembered of completions."""
    return runtime_of(request).settings.feedback_days > 0


def allowed(request: Request, section: str) -> Principal:
    """Who asks. Raises PageError where this part of the console isn't theirs, and notes it."""
    who = principal_of(request)
    if not may_see(who, section):
        note_refusal(anybody(request), takes(section))
        raise PageError(403, "Not for you", "Your role doesn’t have this part of the console; an admin can change it.")
    return who


def actor_of(request: Request) -> Actor:
    """For the audit log."""
    who = principal_of(request)
    return Actor(id=who.user or who.name, origin=request.client.host if request.client else "unknown")


def not_found(what: str) -> PageError:
    """Also for what there is and may not be read: whoever asks mustn't learn the difference."""
    return PageError(404, "Not found", f"There is no such {what}, or it isn’t yours to read.")


def page(request: Request, template: str, section: str, *, status: int = 200, **values: Any) -> Response:
    who = principal_of(request)
    shared = {"who": who, "sections": sections_of(who), "section": section, "said": _said(request)}
    urls = {"script_url": SCRIPT_URL, "console_style_url": STYLE_URL}
    return _PAGES.page(request, template, status=status, **shared, **urls, **values)


def back_to(path: str, said: str) -> Response:
    """After a form: the page that shows what came of it, so that a reload doesn't send it again."""
    return RedirectResponse(f"{path}?said={said}", status_code=303, headers=HEADERS)


_SAID = {
    "approve": "The candidate is the champion now.",
    "reject": "The candidate was rejected.",
    "rollback": "Rolled back.",
    "pin": "The champion is pinned.",
    "unpin": "The champion is no longer pinned.",
    "promote": "That version is the champion now.",
    "cancel": "Cancelled; one that runs ends once its worker hears of it.",
    "retry": "It waits to be tried again.",
    "changed": "Changed.",
    "revoked": "Revoked. It is refused from now on, everywhere within seconds.",
}


def _said(request: Request) -> str | None:
    """Known sentences only: a link mustn't put words into our mouth."""
    return _SAID.get(request.query_params.get("said", ""))
