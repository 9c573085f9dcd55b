"""What the routes of signing in share: the service, cookies, who asks from where."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response

from homespun_server.pages.http import Pages
from homespun_server.signin.service import SignIn

OPEN_PATHS = ("/signin", "/signout", "/oauth", "/scim/v2", "/.well-known/oauth-authorization-server", "/assets")
"""Whoever comes here has no token yet, or shows one of another kind."""
PAGES = Pages(Path(__file__).parent.parent / "templates")


def is_open(path: str) -> bool:
    return any(path == open or path.startswith(f"{open}/") for open in OPEN_PATHS)


def service_of(request: Request) -> SignIn:
    service = request.app.state.signin
    assert isinstance(service, SignIn)
    return service


def base_url(request: Request) -> str:
    """How people reach us: as configured, else as this request did."""
    return service_of(request).public_url or str(request.base_url).rstrip("/")


def origin_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def sign_in_address(path: str) -> str:
    return f"/signin?next={quote(path, safe='/')}"


def session_cookie(service: SignIn) -> str:
    """With __Host-, browsers take it from this host alone, by TLS."""
    return "__Host-homespun-session" if service.is_secure else "homespun-session"


def attempt_cookie(service: SignIn) -> str:
    return "__Host-homespun-attempt" if service.is_secure else "homespun-attempt"


def set_cookie(response: Response, service: SignIn, name: str, value: str, lasts_s: int) -> None:
    """Lax: a link from elsewhere finds its reader signed in, a form from elsewhere doesn't."""
    response.set_cookie(name, value, max_age=lasts_s, path="/", secure=service.is_secure, httponly=True, samesite="lax")


def drop_cookie(response: Response, service: SignIn, name: str) -> None:
    set_cookie(response, service, name, "", 0)
