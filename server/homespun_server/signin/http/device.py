"""The page on which somebody who is signed in says that the code in their editor is theirs."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from homespun_server.access.principal import Principal
from homespun_server.pages.forms import Form, form
from homespun_server.pages.http import HEADERS, message_page
from homespun_server.signin.device import DeviceCode, normal
from homespun_server.signin.http.doors import PAGES, service_of, sign_in_address

PATH = "/oauth/device"
router = APIRouter(include_in_schema=False)


@router.get(PATH)
def show(request: Request, user_code: str = "") -> Response:
    return _unless_theirs(request, user_code) or _looked(request, user_code)


@router.post(PATH)
def decide(request: Request, fields: Annotated[Form, Depends(form)]) -> Response:
    user_code, decision = fields.get("user_code", ""), fields.get("decision", "")
    refusal = _unless_theirs(request, user_code)
    if refusal is not None or decision not in ("approve", "deny"):
        return refusal or _looked(request, user_code)
    code = _found(request, user_code)
    if isinstance(code, Response):
        return code
    principal: Principal = request.state.principal
    state: Literal["approved", "denied"] = "approved" if decision == "approve" else "denied"
    if not service_of(request).codes.decide(code, principal.user, state):
        return _unknown(request)
    if state == "denied":
        return message_page(request, "Refused", f"{code.client} gets no access. You can close this page.")
    return message_page(request, "Signed in", f"{code.client} goes on by itself. You can close this page.")


def _looked(request: Request, user_code: str) -> Response:
    if not user_code:
        return PAGES.page(request, "device_code.html", error=None)
    code = _found(request, user_code)
    if isinstance(code, Response):
        return code
    letters = normal(user_code)
    shown = f"{letters[:4]}-{letters[4:]}"
    return PAGES.page(request, "device_confirm.html", user_code=shown, client=code.client, origin=code.origin)


def _found(request: Request, user_code: str) -> DeviceCode | Response:
    if not service_of(request).guesses.allows(request.state.principal.user):
        return PAGES.page(request, "device_code.html", error="Too many tries; wait a minute.", status=429)
    return service_of(request).codes.waiting(user_code) or _unknown(request)


def _unless_theirs(request: Request, user_code: str) -> Response | None:
    """A token can't give away more than its owner signed in to give: else one that was revoked would live on in others
    that were made with it."""
    service, session = service_of(request), request.state.session
    if not service.is_needed:
        return message_page(request, "No sign-in needed", "This server answers every editor on this machine.")
    if session is None:
        letters = normal(user_code)
        address = f"{PATH}?user_code={letters}" if letters else PATH
        return RedirectResponse(sign_in_address(address), status_code=303, headers=HEADERS)
    if session.user is None:
        return message_page(
            request,
            "Whose editor is it?",
            "You are signed in with the server’s own token, which belongs to nobody. Sign in as yourself, or make a"
            " token with “homespun token create” and enter it with “homespun login --token”.",
            status=403,
        )
    if session.is_by_token and "admin" not in session.scopes:
        why = "Sign in at the identity provider, or enter the token itself in the editor."
        return message_page(request, "Not with this token", why, status=403)
    return None


def _unknown(request: Request) -> Response:
    error = "No editor waits with that code. Codes last ten minutes and count once; start again in the editor."
    return PAGES.page(request, "device_code.html", error=error, status=404)
