"""Whom a request is from, for the routes."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request

from homespun_core.types import CompletionRequest
from homespun_server.access.decisions import Action, may
from homespun_server.access.limits import Taken
from homespun_server.access.principal import Principal
from homespun_server.feedback.editors import editor_of


class ForbiddenError(Exception):
    """Refused whatever the thing is, and whether or not it exists."""

    def __init__(self, action: str) -> None:
        super().__init__(f"this token or user may not do that ({action})")


class TooOftenError(Exception):
    """More than a minute's worth of a token or a user."""

    def __init__(self, taken: Taken) -> None:
        super().__init__("too many requests a minute")
        self.taken = taken


def principal_of(request: Request) -> Principal:
    """As the gate in `app` found it."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


def bound(request: Request, wanted: CompletionRequest) -> CompletionRequest:
    """What a client wants, limited to what its user may read. Every completion passes here. Raises ForbiddenError.

    With accounts, a client can't say whose it is: neither to be counted as another, nor to end what another
    waits for."""
    principal = demand(request, "complete")
    wanted = replace(wanted, editor=editor_of(request.headers.get("user-agent", "")))
    if not principal.user:
        return replace(wanted, readable=principal.readable)
    client = f"{principal.user}/{wanted.client}" if wanted.client else None
    return replace(wanted, readable=principal.readable, account=principal.user, user=principal.user, client=client)


def demand(request: Request, action: Action) -> Principal:
    """Whose request it is, if they may do that; raises ForbiddenError."""
    principal = principal_of(request)
    if not may(principal, action):
        raise ForbiddenError(action)
    return principal


def charge(request: Request, number: int) -> None:
    """Counts the completions of a request after its first, which the gate has counted. Raises TooOftenError."""
    if number > 0 and (refusing := request.state.tab.add(number)) is not None:
        raise TooOftenError(refusing)
