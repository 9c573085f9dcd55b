"""Somebody's own tokens: what their editors and scripts show."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.responses import Response

from homespun_core.errors import ConfigError, HomespunError
from homespun_server.access import reading
from homespun_server.access.changing import changing
from homespun_server.console.http.web import Form, actor_of, allowed, back_to, not_found, page, runtime_of
from homespun_server.console.sections import PATH

router = APIRouter()

_DAYS = {"30": 30, "90": 90, "365": 365}
_DAY_S = 86_400.0


@router.get(f"{PATH}/tokens")
def show(request: Request) -> Response:
    return _shown(request)


@router.post(f"{PATH}/tokens")
def create(request: Request, form: Form) -> Response:
    """Shows the secret in the answer itself, which is never repeated: it is stored nowhere."""
    who = allowed(request, "tokens")
    try:
        days = _DAYS.get(form.get("days", ""))
        if days is None:
            raise ConfigError(f"days: choose one of {', '.join(_DAYS)}")
        with changing(runtime_of(request).database, actor_of(request)) as change:
            user = reading.user_with(change.connection, who.user)
            if user is None:
                raise not_found("user")
            token = change.add_token(user, form.get("name", "").strip(), expires=time.time() + days * _DAY_S)
    except HomespunError as error:
        return _shown(request, status=400, error=str(error))
    return _shown(request, made=token.text)


@router.post(f"{PATH}/tokens/{{id}}/revoke")
def revoke(request: Request, id: str, form: Form) -> Response:
    who = allowed(request, "tokens")
    with changing(runtime_of(request).database, actor_of(request)) as change:
        if id not in {token.id for token in reading.all_tokens(change.connection, who.user)}:
            raise not_found("token")
        change.revoke_token(id)
    return back_to(f"{PATH}/tokens", "revoked")


def _shown(request: Request, *, status: int = 200, error: str | None = None, made: str | None = None) -> Response:
    who = allowed(request, "tokens")
    with runtime_of(request).database.connect() as connection:
        found = reading.all_tokens(connection, who.user)
    return page(request, "tokens.html", "tokens", status=status, tokens=found, days=list(_DAYS), error=error, made=made)
