"""Signing in on another screen: OAuth's device flow (RFC 8628), as a client.

What the server sends is shown to people and opened by browsers, so it is looked at before.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from homespun_core.errors import ServiceError
from homespun_lsp.network import explain, reply_to

CLIENT_ID = "homespun-editor"
_SCOPE = "complete"
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL_S = 5.0
"""RFC 8628: where the server names none, and what `slow_down` adds."""
_LONGEST_INTERVAL_S = 60.0
_MAX_REASON = 200
_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """What a person needs in order to sign in."""

    user_code: str
    url: str
    complete_url: str | None
    """With the code in it."""
    expires_in_s: float
    interval_s: float
    device_code: str = field(repr=False)

    def as_json(self) -> dict[str, object]:
        return {
            "userCode": self.user_code,
            "verificationUri": self.url,
            "verificationUriComplete": self.complete_url,
            "expiresIn": int(self.expires_in_s),
            "interval": int(self.interval_s),
        }


async def invite(http: httpx.AsyncClient, server: str) -> Invitation:
    """Raises ServiceError."""
    form = {"client_id": CLIENT_ID, "scope": _SCOPE, "device_name": platform.node()}
    status, body = await _post(http, server, "/oauth/device/code", form)
    if status != httpx.codes.OK:
        raise ServiceError(f"{server}: {_no_flow(status, body)}")
    try:
        return _invitation(body)
    except (LookupError, TypeError, ValueError, OverflowError):
        raise ServiceError(
            f"{server}: its answer to a sign-in makes no sense; is it a Homespun server, and up to date?"
        ) from None


async def await_token(
    http: httpx.AsyncClient,
    server: str,
    invitation: Invitation,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The token, once the person has said yes. Raises ServiceError when they say no, or nothing for too long."""
    form = {"grant_type": _GRANT, "device_code": invitation.device_code, "client_id": CLIENT_ID}
    interval_s, deadline = invitation.interval_s, clock() + invitation.expires_in_s
    while clock() < deadline:
        await sleep(interval_s)
        try:
            status, body = await _post(http, server, "/oauth/token", form)
        except ServiceError:  # RFC 8628: a connection that fails is tried again, more slowly
            interval_s = min(2 * interval_s, _LONGEST_INTERVAL_S)
            continue
        match body:
            case {"access_token": str(token)} if status == httpx.codes.OK and token.isascii() and token.isprintable():
                return token
            case {"error": "authorization_pending"}:
                continue
            case {"error": "slow_down"}:
                interval_s = min(interval_s + _INTERVAL_S, _LONGEST_INTERVAL_S)
            case {"error": str(error)}:
                raise ServiceError(f"{server}: {_refusal(error)}")
            case _:
                interval_s = min(2 * interval_s, _LONGEST_INTERVAL_S)
    raise ServiceError(f"{server}: {_refusal('expired_token')}")


async def revoke(http: httpx.AsyncClient, server: str, token: str) -> bool:
    """Whether the server has forgotten the token. One without OAuth, or that can't be reached, hasn't."""
    try:
        status, _ = await _post(http, server, "/oauth/revoke", {"token": token, "client_id": CLIENT_ID})
    except ServiceError:
        return False
    return status == httpx.codes.OK


async def _post(http: httpx.AsyncClient, server: str, path: str, form: Mapping[str, str]) -> tuple[int, object]:
    try:
        reply = await reply_to(http, http.build_request("POST", server + path, data=form), _WITHIN_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(f"{server} {explain(error)}") from None
    return reply.status, reply.body


def _invitation(body: object) -> Invitation:
    if not isinstance(body, Mapping):
        raise TypeError("no object")
    complete = body.get("verification_uri_complete")
    return Invitation(
        user_code=_plain(body["user_code"]),
        url=_web_address(body["verification_uri"]),
        complete_url=None if complete is None else _web_address(complete),
        expires_in_s=max(1.0, min(float(body["expires_in"]), 3600.0)),
        interval_s=max(0.1, min(float(body.get("interval") or _INTERVAL_S), _LONGEST_INTERVAL_S)),
        device_code=_plain(body["device_code"]),
    )


def _plain(text: object) -> str:
    """A terminal obeys control characters."""
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable() or len(text) > 1_000:
        raise ValueError("not a plain text")
    return text


def _web_address(text: object) -> str:
    url = _plain(text)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not a web address")
    return url


def _no_flow(status: int, body: object) -> str:
    match body:  # ours says what is wrong: that it needs no sign-in, or that too many wait
        case {"error_description": str(why)} if why.isprintable() and len(why) <= _MAX_REASON:
            return why
    if status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.UNAUTHORIZED):
        return "has no sign-in; if it wants a token, ask its administrator for one and run homespun login --token"
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return "too many sign-ins at the moment; try again in a minute"
    return f"answers a sign-in with status {status}"


def _refusal(error: str) -> str:
    known = {
        "access_denied": "the sign-in was denied; run homespun login to try again",
        "expired_token": "the sign-in wasn't confirmed in time; run homespun login to try again",
    }
    return known.get(error, "the sign-in failed on the server; run homespun login to try again")
