"""The doors: pages for browsers, OAuth's endpoints for editors, SCIM for the identity provider."""

from __future__ import annotations

from fastapi import FastAPI

from homespun_server.pages.http import include_errors
from homespun_server.signin.http import browser, device, oauth, scim, setup
from homespun_server.signin.service import SignIn

DOORS = (setup.PATH, "/signin", "/signout", "/oauth", "/.well-known/oauth-authorization-server")
"""For whoever has no credential yet."""
SIGNED = (scim.PATH,)
"""Where a token of its own is shown."""


def include(app: FastAPI, service: SignIn) -> None:
    app.state.signin = service
    for router in (setup.router, browser.router, device.router, oauth.router, scim.router):
        app.include_router(router)
    include_errors(app)
    scim.include_errors(app)
