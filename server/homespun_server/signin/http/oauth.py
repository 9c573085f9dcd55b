"""OAuth's endpoints for editors: RFC 8628 (device codes), 7009 (handing a token back) and 8414 (where all that is)."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from homespun_server.pages.forms import Form, plain_form
from homespun_server.signin import device
from homespun_server.signin.http.doors import base_url, origin_of, service_of

CLIENT = "homespun-editor"
"""The one client that is registered: our language server, on anybody's machine, so it has no secret."""
SCOPE = "complete"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_MAX_NAME = 100
_NO_STORE = {"Cache-Control": "no-store"}

router = APIRouter(tags=["sign-in"])


def _form(*required: str, **fields: str) -> dict[str, Any]:
    """Described for /openapi.json: FastAPI doesn't see what `plain_form` reads."""
    properties = {name: {"type": "string", "description": text} for name, text in fields.items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    content = {"application/x-www-form-urlencoded": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


_REFUSED: dict[int | str, dict[str, Any]] = {415: {"description": "What was sent is no form."}}


@router.get("/.well-known/oauth-authorization-server")
def metadata(request: Request) -> dict[str, Any]:
    base = base_url(request)
    return {
        "issuer": base,
        "device_authorization_endpoint": f"{base}/oauth/device/code",
        "token_endpoint": f"{base}/oauth/token",
        "revocation_endpoint": f"{base}/oauth/revoke",
        "grant_types_supported": [GRANT],
        "response_types_supported": [],
        "scopes_supported": [SCOPE],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
    }


@router.post(
    "/oauth/device/code",
    responses=_REFUSED,
    openapi_extra=_form("client_id", client_id=CLIENT, scope=SCOPE, device_name="What the token will be called."),
)
def device_code(request: Request, fields: Annotated[Form, Depends(plain_form)]) -> Response:
    """`device_name` is what the token will be called; the address that asked, if there is none."""
    service, origin = service_of(request), origin_of(request)
    if not service.is_needed:
        return _error("invalid_request", "this server needs no sign-in")
    if fields.get("client_id") != CLIENT:
        return _error("invalid_client", f"client_id must be {CLIENT}", status=401)
    if fields.get("scope", SCOPE) != SCOPE:
        return _error("invalid_scope", f"scope must be {SCOPE}")
    if not service.starts.allows(origin):
        return _error("slow_down", "too many codes were asked for; wait a minute", status=429)
    try:
        started = service.codes.start(_name(fields, origin), SCOPE, origin)
    except device.TooManyError:
        return _error("slow_down", "too many codes are waiting; try again in ten minutes", status=503)
    page = f"{base_url(request)}/oauth/device"
    reply = {
        "device_code": started.device_code,
        "user_code": started.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={started.user_code}",
        "expires_in": device.LIFETIME_S,
        "interval": device.INTERVAL_S,
    }
    return JSONResponse(reply, headers=_NO_STORE)


@router.post(
    "/oauth/token",
    responses=_REFUSED,
    openapi_extra=_form(
        "grant_type", "device_code", grant_type=GRANT, device_code="As it was given.", client_id=CLIENT
    ),
)
def token(request: Request, fields: Annotated[Form, Depends(plain_form)]) -> Response:
    """Asked again and again until somebody has decided; once more than that is too often."""
    if fields.get("grant_type") != GRANT:
        return _error("unsupported_grant_type", f"grant_type must be {GRANT}")
    if fields.get("client_id") != CLIENT:
        return _error("invalid_client", f"client_id must be {CLIENT}", status=401)
    service = service_of(request)
    answer, code = service.codes.ask(fields.get("device_code", ""))
    if answer != "granted" or code is None:
        return _error(answer)
    made = service.device_token(code, origin_of(request), time.time())
    if made is None:
        return _error("access_denied")
    text, lasts_s = made
    reply = {"access_token": text, "token_type": "Bearer", "expires_in": lasts_s, "scope": SCOPE}
    return JSONResponse(reply, headers=_NO_STORE)


@router.post("/oauth/revoke", responses=_REFUSED, openapi_extra=_form("token", token="The one to hand back."))
def revoke(request: Request, fields: Annotated[Form, Depends(plain_form)]) -> Response:
    """Says the same of tokens that are none: who guesses learns nothing."""
    service_of(request).revoke(fields.get("token", ""), origin_of(request))
    return JSONResponse({}, headers=_NO_STORE)


def _name(fields: Form, origin: str) -> str:
    name = "".join(c for c in fields.get("device_name", "") if c.isprintable()).strip()[:_MAX_NAME]
    return f"Editor on {name or origin}"


def _error(error: str, description: str | None = None, status: int = 400) -> Response:
    body = {"error": error} | ({"error_description": description} if description else {})
    return JSONResponse(body, status_code=status, headers=_NO_STORE)
