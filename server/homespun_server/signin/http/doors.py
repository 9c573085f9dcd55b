"""What the routes of signing in share: the service, cookies, who asks from where."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response

from homespun_server.pages.http import Pages
from homespun_server.signin.service import SignIn

PAGES = Pages(Path(__file__).parent.parent / "templates")


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


def attempt_cookie(service: SignIn) -> str:
    return "__Host-homespun-attempt" if service.is_secure else "homespun-attempt"


def set_cookie(response: Response, service: SignIn, name: str, value: str, lasts_s: int) -> None:
    """Lax: a link from elsewhere finds its reader signed in, a form from elsewhere doesn't."""
    response.set_cookie(name, value, max_age=lasts_s, path="/", secure=service.is_secure, httponly=True, samesite="lax")


def drop_cookie(response: Response, service: SignIn, name: str) -> None:
    set_cookie(response, service, name, "", 0)
