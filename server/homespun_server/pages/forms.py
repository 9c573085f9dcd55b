"""What forms send, and that they are ours: requests with somebody's cookie that another site made are refused."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request

from homespun_server.pages.origin import is_own

_MAX_BYTES = 100_000
_MAX_FIELDS = 200

Form = Mapping[str, str]


class PageError(Exception):
    """Shown as a page."""

    def __init__(self, status: int, title: str, *paragraphs: str) -> None:
        super().__init__(title)
        self.status, self.title, self.paragraphs = status, title, paragraphs


FOREIGN = PageError(
    403, "That didn’t come from here", "The form was sent from another page, or is too old. Go back, reload, try again."
)


async def form(request: Request) -> Form:
    """The fields of a form of ours; of several of one name the last. For `Depends`. Raises PageError."""
    if not is_own(dict(request.headers.raw), public_url=request.app.state.runtime.settings.public_url):
        raise FOREIGN
    fields = await plain_form(request)
    session = getattr(request.state, "session", None)
    if session is not None and not secrets.compare_digest(fields.get("csrf", "").encode(), session.csrf.encode()):
        raise FOREIGN
    return fields


async def plain_form(request: Request) -> Form:
    """The same from programs, which show no cookie."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise PageError(415, "No form", "Send application/x-www-form-urlencoded.")
    body = await _body(request)
    try:
        text = body.decode("ascii")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"))
    except ValueError as error:
        raise PageError(400, "No form", "What was sent can’t be read as a form.") from error


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _MAX_BYTES:
            raise PageError(413, "Too much", f"The form is larger than {_MAX_BYTES:,} bytes.")
    return b"".join(parts)
