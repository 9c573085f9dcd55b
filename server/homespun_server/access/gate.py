"""The gate that every request passes: who asks, whether they may ask at all, and not too often."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homespun_core.config import Settings
from homespun_core.errors import ServiceError
from homespun_server.access.failures import FREE_OF_ADDRESS, Failed, Failures
from homespun_server.access.limits import Limiter, Tab, Taken, tighter
from homespun_server.access.lookup import Lookup
from homespun_server.access.noting import Noting
from homespun_server.access.principal import LOCAL, NOBODY, Principal
from homespun_server.access.tokens import parsed
from homespun_server.exposure import is_loopback
from homespun_server.refused import refused

Headers = Mapping[bytes, bytes]

OPEN = ("/healthz", "/readyz")
"""Answer anybody, and say less to whoever shows no credential."""
_SAFE = ("GET", "HEAD", "OPTIONS")
_OF_PROXIES = (b"forwarded", b"x-real-ip")


class Browsers(Protocol):
    """Who is signed in with a browser. A session is what pages need of that: see `signin.sessions.Session`."""

    @property
    def cookie_name(self) -> str: ...

    async def visitor(self, cookie: str) -> tuple[object, Principal] | None: ...

    def is_own(self, headers: Headers) -> bool:
        """Whether a page of ours made the request."""
        ...


class Gate:
    """Refuses before anything is read: a wrong Host or Origin header on loopback, a missing or wrong credential, too
    many requests. What it lets in carries its principal in `state`.

    A web page may have its own name point to 127.0.0.1 (DNS rebinding); its requests then carry that name. Or it posts
    to 127.0.0.1 without being able to read the answer; browsers then name its origin.

    What lies under `signed` passes: it checks credentials of its own, and may come under the name of a proxy. What lies
    under `doors` is for whoever has no credential yet.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        lookup: Lookup,
        signed: Sequence[str],
        doors: Sequence[str] = (),
        browsers: Browsers | None = None,
        noting: Noting | None = None,
    ) -> None:
        self._app, self._lookup, self._signed, self._browsers = app, lookup, signed, browsers
        self._open = (*OPEN, *doors)
        self._is_local = is_loopback(settings.host)
        self._public_host = urlsplit(settings.public_url).hostname
        self._is_single = self._is_local and not (settings.api_token or settings.oidc_issuer or settings.setup)
        self._of_token = Limiter(settings.requests_per_minute)
        self._of_user = Limiter(settings.user_requests_per_minute)
        self._failures, self._noting = Failures(), noting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["session"] = None
        headers = dict(scope["headers"])
        if (shown := _bearer(headers)) is not None:
            send = self._slowing(scope, shown, receive, send)
        found = await self._judged(scope, headers)
        if isinstance(found, Response):
            await found(scope, receive, send)
            return
        scope["state"]["principal"], scope["state"]["tab"] = found, (tab := self._tab(found))
        told = _telling(tab, send)
        if (refusing := tab.add(1)) is not None:
            await too_many(scope["path"], refusing)(scope, receive, told)
            return
        await self._app(scope, receive, told)

    async def _judged(self, scope: Scope, headers: Headers) -> Principal | Response:
        """Whose request it is, or why it is refused."""
        path = scope["path"]
        if _is_under(path, self._signed):
            return NOBODY
        refusal = self._foreign(path, headers) if self._is_local else None
        if refusal is not None:
            return refusal
        try:
            principal = await self._principal(headers) or await self._visitor(scope, headers)
        except ServiceError as error:
            return NOBODY if _is_under(path, self._open) else _unavailable(path, error)
        if principal is None:
            return NOBODY if _is_under(path, self._open) else _unauthorised(scope, headers)
        if scope["state"]["session"] is not None and not self._is_ours(scope["method"], headers):
            return refused(path, 403, "web pages of other sites may not use this server", *_FOREIGN)
        return principal

    def _foreign(self, path: str, headers: Headers) -> Response | None:
        if not self._is_name_of_ours(headers.get(b"host", b"")):
            message = "this server answers on localhost only (or at public_url); the Host header names another"
            return refused(path, 400, message, "invalid_request_error", "wrong_host")
        origin = headers.get(b"origin")  # programs send none; pages of this machine send their own
        if origin is not None and not self._is_name_of_ours(origin.partition(b"://")[2]):
            return refused(path, 403, "web pages of other sites may not use this server", *_FOREIGN)
        return None

    def _is_name_of_ours(self, host: bytes) -> bool:
        name = _host_of(host.decode("latin-1"))
        return is_loopback(name) or (self._public_host is not None and name.lower() == self._public_host)

    async def _principal(self, headers: Headers) -> Principal | None:
        """None for whoever shows nothing that we know. Raises ServiceError while that can't be known."""
        if self._is_single and not self._lookup.has_accounts and _is_direct(headers):
            return LOCAL
        shown = _bearer(headers)
        return None if shown is None else await self._lookup.bearer(shown)

    def _slowing(self, scope: Scope, shown: str, receive: Receive, send: Send) -> Send:
        """Whoever shows a token that is nobody's too often hears when to come back instead, whoever it was that refused
        it: we, or a route that has tokens of its own."""
        is_replaced = False

        async def slowing(message: Message) -> None:
            nonlocal is_replaced
            if message["type"] == "http.response.start" and message["status"] == 401:
                failed = self._failed(_address(scope), shown)
                if failed.wait_s:
                    is_replaced = True
                    await _too_wrong(scope["path"], failed)(scope, receive, send)
            if not is_replaced:
                await send(message)

        return slowing

    def _failed(self, address: str, shown: str) -> Failed:
        failed = self._failures.failed(address, _apart(shown), time.monotonic())
        if self._noting is not None:
            self._noting.failed(address, failed)
        return failed

    async def _visitor(self, scope: Scope, headers: Headers) -> Principal | None:
        """Whose browser it is. Whoever shows a token is who that says, or nobody."""
        if self._browsers is None or b"authorization" in headers:
            return None
        cookie = _cookie(headers, self._browsers.cookie_name)
        found = await self._browsers.visitor(cookie) if cookie else None
        if found is None:
            return None
        scope["state"]["session"] = found[0]
        return found[1]

    def _is_ours(self, method: str, headers: Headers) -> bool:
        """Browsers send cookies with what other sites make them ask."""
        return method in _SAFE or self._browsers is None or self._browsers.is_own(headers)

    def _tab(self, principal: Principal) -> Tab:
        """Whoever has no account is the only one, or shares a token with everybody."""

        def take(number: int) -> Taken | None:
            now = time.monotonic()
            of_token = self._of_token.take(principal.credential, now, number)
            return tighter(of_token, self._of_user.take(principal.user, now, number))

        return Tab(take if principal.user else lambda number: None)


def _is_under(path: str, doors: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{door}/") for door in doors)


def _is_direct(headers: Headers) -> bool:
    """Whether whoever asks is on this machine, as far as headers tell: a proxy passes on what others ask."""
    is_forwarded = any(name in _OF_PROXIES or name.startswith(b"x-forwarded-") for name in headers)
    return not is_forwarded and is_loopback(_host_of(headers.get(b"host", b"").decode("latin-1")))


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else None


def _apart(shown: str) -> str:
    """What tells one token from another, and is no secret."""
    token = parsed(shown)
    return token.id if token is not None else hashlib.sha256(shown.encode()).hexdigest()[:12]


def _address(scope: Scope) -> str:
    return str(scope["client"][0]) if scope.get("client") else "unknown"


def _telling(tab: Tab, send: Send) -> Send:
    """Adds what is left, under OpenAI's names."""

    async def telling(message: Message) -> None:
        taken = tab.taken
        if message["type"] == "http.response.start" and taken is not None:
            headers = MutableHeaders(scope=message)
            headers["x-ratelimit-limit-requests"] = str(taken.limit)
            headers["x-ratelimit-remaining-requests"] = str(taken.remaining)
            headers["x-ratelimit-reset-requests"] = f"{taken.full_s:.1f}s"
        await send(message)

    return telling


def _cookie(headers: Headers, name: str) -> str | None:
    """Whatever others on this host have set beside it: Python's own parser reads nothing where one cookie is odd."""
    return cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(name)


def _host_of(header: str) -> str:
    """Without the port: `localhost:8080`, `[::1]:8080`."""
    return header.partition("]")[0].lstrip("[") if header.startswith("[") else header.partition(":")[0]


_FOREIGN = ("invalid_request_error", "foreign_origin")


def _unauthorised(scope: Scope, headers: Headers) -> Response:
    """Browsers are shown where to sign in."""
    if scope["method"] == "GET" and b"text/html" in headers.get(b"accept", b""):
        return RedirectResponse(f"/signin?next={quote(scope['path'], safe='/')}", status_code=303)
    message, asked_for = "a valid bearer token is needed", {"WWW-Authenticate": "Bearer"}
    return refused(scope["path"], 401, message, "authentication_error", "invalid_api_key", headers=asked_for)


def _unavailable(path: str, error: ServiceError) -> Response:
    return refused(path, 503, str(error), "service_unavailable_error", "not_ready", headers={"Retry-After": "5"})


def _too_wrong(path: str, failed: Failed) -> Response:
    what = (
        f"more than {FREE_OF_ADDRESS} different tokens from this address are nobody's"
        if failed.is_of_address
        else "this token is nobody's, and was shown too often"
    )
    message = f"{what}; try again in {failed.wait_s} s, or with a good token at once"
    headers = {"Retry-After": str(failed.wait_s)}
    return refused(path, 429, message, "authentication_error", "invalid_api_key", headers=headers)


def too_many(path: str, taken: Taken) -> Response:
    wait_s = max(1, math.ceil(taken.wait_s))
    message = (
        f"more than {taken.limit} requests a minute (each completion of a request counts); try again in {wait_s} s"
    )
    return refused(path, 429, message, "rate_limit_error", "rate_limit_exceeded", headers={"Retry-After": str(wait_s)})
