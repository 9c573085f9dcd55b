"""The gate that every request passes: who asks, whether they may ask at all, and not too often."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homespun_core.config import Settings
from homespun_core.errors import ServiceError
from homespun_server.access.limits import Limiter, Taken, tighter
from homespun_server.access.lookup import Lookup
from homespun_server.access.principal import LOCAL, NOBODY, Principal
from homespun_server.dialects.refusals import Refusal, refusal_body
from homespun_server.exposure import is_loopback

Headers = Mapping[bytes, bytes]

OPEN = ("/healthz", "/readyz")
"""Answer anybody, and say less to whoever shows no credential."""


class Gate:
    """Refuses before anything is read: a wrong Host or Origin header on loopback, a missing or wrong credential, too
    many requests. What it lets in carries its principal in `state`.

    A web page may have its own name point to 127.0.0.1 (DNS rebinding); its requests then carry that name. Or it posts
    to 127.0.0.1 without being able to read the answer; browsers then name its origin.

    What lies under `signed` passes: it checks credentials of its own, and may come under the name of a proxy.
    """

    def __init__(self, app: ASGIApp, settings: Settings, lookup: Lookup, signed: Sequence[str]) -> None:
        self._app, self._lookup, self._signed = app, lookup, signed
        self._is_local = is_loopback(settings.host)
        self._is_single = self._is_local and not settings.api_token
        self._of_token = Limiter(settings.requests_per_minute)
        self._of_user = Limiter(settings.user_requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found, taken = await self._judged(scope["path"], dict(scope["headers"]))
        if isinstance(found, Response):
            await found(scope, receive, _telling(taken, send))
            return
        scope.setdefault("state", {})["principal"] = found
        await self._app(scope, receive, _telling(taken, send))

    async def _judged(self, path: str, headers: Headers) -> tuple[Principal | Response, Taken | None]:
        """Whose request it is, or why it is refused; and how many more they may send."""
        if _is_under(path, self._signed):
            return NOBODY, None
        refusal = self._foreign(path, headers) if self._is_local else None
        if refusal is not None:
            return refusal, None
        try:
            principal = await self._principal(headers)
        except ServiceError as error:
            return (NOBODY if _is_under(path, OPEN) else _unavailable(path, error)), None
        if principal is None:
            return (NOBODY if _is_under(path, OPEN) else _unauthorised(path)), None
        taken = self._taken(principal)
        return (principal if taken is None or taken.is_allowed else _too_many(path, taken)), taken

    def _foreign(self, path: str, headers: Headers) -> Response | None:
        if not is_loopback(_host_of(headers.get(b"host", b"").decode("latin-1"))):
            message = "this server answers on localhost only; the Host header names another"
            return _refused(path, 400, message, "invalid_request_error", "wrong_host")
        if not _is_local_origin(headers.get(b"origin")):
            message = "web pages of other sites may not use this server"
            return _refused(path, 403, message, "invalid_request_error", "foreign_origin")
        return None

    async def _principal(self, headers: Headers) -> Principal | None:
        """None for whoever shows nothing that we know. Raises ServiceError while that can't be known."""
        if self._is_single and not self._lookup.has_accounts:
            return LOCAL
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            return await self._lookup.bearer(token.strip().decode("latin-1"))
        return None

    def _taken(self, principal: Principal) -> Taken | None:
        """Whoever has no account is the only one, or shares a token with everybody."""
        if not principal.user:
            return None
        now = time.monotonic()
        return tighter(self._of_token.take(principal.credential, now), self._of_user.take(principal.user, now))


def _is_under(path: str, doors: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{door}/") for door in doors)


def _telling(taken: Taken | None, send: Send) -> Send:
    """Adds what is left, under OpenAI's names."""
    if taken is None:
        return send

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-ratelimit-limit-requests"] = str(taken.limit)
            headers["x-ratelimit-remaining-requests"] = str(taken.remaining)
            headers["x-ratelimit-reset-requests"] = f"{taken.full_s:.1f}s"
        await send(message)

    return telling


def _is_local_origin(origin: bytes | None) -> bool:
    """Programs send none; pages of this machine send their own."""
    return origin is None or is_loopback(_host_of(origin.decode("latin-1").partition("://")[2]))


def _host_of(header: str) -> str:
    """Without the port: `localhost:8080`, `[::1]:8080`."""
    return header.partition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]


def _refused(
    path: str, status: int, message: str, type: str, code: str, headers: Mapping[str, str] | None = None
) -> Response:
    refusal = Refusal(status=status, message=message, type=type, code=code)
    return JSONResponse(refusal_body(refusal, path), status_code=status, headers=headers)


def _unauthorised(path: str) -> Response:
    message = "a valid bearer token is needed"
    return _refused(path, 401, message, "authentication_error", "invalid_api_key", {"WWW-Authenticate": "Bearer"})


def _unavailable(path: str, error: ServiceError) -> Response:
    return _refused(path, 503, str(error), "service_unavailable_error", "not_ready", {"Retry-After": "5"})


def _too_many(path: str, taken: Taken) -> Response:
    wait_s = max(1, math.ceil(taken.wait_s))
    message = f"more than {taken.limit} requests a minute; try again in {wait_s} s"
    return _refused(path, 429, message, "rate_limit_error", "rate_limit_exceeded", {"Retry-After": str(wait_s)})
