"""Signing in and out with a browser: at the identity provider, or with a token."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from homespun_core.errors import HomespunError, StorageError
from homespun_server.pages.forms import Form, form
from homespun_server.pages.http import HEADERS, message_page
from homespun_server.signin.attempt import LIFETIME_S, attempt_of, local_path, new_attempt
from homespun_server.signin.http.doors import (
    PAGES,
    attempt_cookie,
    drop_cookie,
    origin_of,
    service_of,
    set_cookie,
    sign_in_address,
)
from homespun_server.signin.provider import ProviderUnavailableError, SignInRefusedError
from homespun_server.signin.service import CALLBACK, SignIn

logger = logging.getLogger(__name__)
router = APIRouter(include_in_schema=False)


@router.get("/signin")
def choose(request: Request, next: str = "") -> Response:
    if request.state.session is not None and next:
        return _redirect(local_path(next))
    setup = service_of(request).setup
    if setup is not None and setup.is_open:
        return _redirect("/setup")
    return _choices(request, local_path(next))


@router.get("/signin/start")
def start(request: Request, next: str = "") -> Response:
    """A link leads here, since no form may lead to another site."""
    service = service_of(request)
    if service.provider is None:
        return message_page(request, "No identity provider", "None is set up here. Sign in with a token.", status=404)
    attempt = new_attempt(local_path(next))
    try:
        answer = _redirect(service.provider.address(attempt))
    except ProviderUnavailableError as error:
        return _unavailable(request, error)
    set_cookie(answer, service, attempt_cookie(service), attempt.cookie, LIFETIME_S)
    return answer


@router.get(CALLBACK)
def come_back(request: Request, code: str = "", state: str = "", error: str = "", iss: str = "") -> Response:
    """From the identity provider. Every way out drops the cookie of the attempt: an answer counts once."""
    service = service_of(request)
    answer = _come_back(request, service, code, state, error, iss)
    drop_cookie(answer, service, attempt_cookie(service))
    return answer


def _come_back(request: Request, service: SignIn, code: str, state: str, error: str, iss: str) -> Response:
    attempt = attempt_of(request.cookies.get(attempt_cookie(service), ""))
    if service.provider is None or attempt is None or not _is_same(state, attempt.state):
        return _refused(request, "This answer belongs to no sign-in that this browser began, or to one long ago.")
    if iss and iss != service.provider.registration.issuer:
        return _refused(request, "The answer came from another identity provider.")
    if error or not code:
        word = error if error.isidentifier() else "no code"
        return _refused(request, f"The identity provider didn’t sign you in ({word[:60]}).")
    try:
        cookie = service.with_code(code, attempt, origin_of(request))
    except ProviderUnavailableError as problem:
        return _unavailable(request, problem)
    except SignInRefusedError as problem:
        logger.warning("a sign-in was refused: %s", problem)
        return _refused(request, f"{problem}.")
    except StorageError as problem:
        logger.warning("nobody can sign in: %s", problem)
        return message_page(
            request, "Not signed in", "The server’s database can’t be reached. Try again soon.", status=503
        )
    return _signed_in(request, service, cookie, attempt.next)


@router.post("/signin/token")
def with_token(request: Request, fields: Annotated[Form, Depends(form)]) -> Response:
    service, next = service_of(request), local_path(fields.get("next"))
    origin = origin_of(request)
    if not service.tries.allows(origin):
        return _choices(request, next, "Too many tries; wait a minute.", status=429)
    cookie = service.with_token(fields.get("token", "").strip(), origin)
    if cookie is None:
        return _choices(request, next, "That is no token of this server, or it is no longer good.", status=401)
    return _signed_in(request, service, cookie, next)


@router.post("/signout")
def sign_out(request: Request, fields: Annotated[Form, Depends(form)]) -> Response:
    service, session = service_of(request), request.state.session
    is_known_there = session is not None and session.user is not None and not session.is_by_token
    if session is not None:
        service.sessions.end(session.id)
        request.state.session = None
    provider = service.provider if is_known_there else None
    page = PAGES.page(
        request,
        "signed_out.html",
        provider=urlsplit(provider.registration.issuer).hostname if provider else None,
        goodbye=provider.goodbye() if provider else None,
    )
    drop_cookie(page, service, service.cookie_name)
    return page


def _signed_in(request: Request, service: SignIn, cookie: str, next: str) -> Response:
    if request.state.session is not None:
        service.sessions.end(request.state.session.id)
    answer = _redirect(next)
    set_cookie(answer, service, service.cookie_name, cookie, service.longest_s)
    return answer


def _choices(request: Request, next: str, error: str | None = None, status: int = 200) -> Response:
    provider = service_of(request).provider
    host = urlsplit(provider.registration.issuer).hostname if provider else None
    return PAGES.page(request, "signin.html", status=status, next=next, provider=host, error=error)


def _refused(request: Request, why: str) -> Response:
    return PAGES.page(request, "again.html", status=400, title="Not signed in", why=why, again=sign_in_address("/"))


def _unavailable(request: Request, problem: HomespunError) -> Response:
    """Whoever is signed in notices nothing of it."""
    logger.warning("nobody can sign in: %s", problem)
    answer = PAGES.page(
        request,
        "again.html",
        status=503,
        title="The identity provider can’t be reached",
        why="Nobody can sign in anew at the moment. Who is signed in already, and every editor, goes on working."
        " The server’s log says more.",
        again=sign_in_address("/"),
    )
    answer.headers["Retry-After"] = "30"
    return answer


def _redirect(address: str) -> Response:
    return RedirectResponse(address, status_code=303, headers=HEADERS)


def _is_same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
