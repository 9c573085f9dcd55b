"""Whom a request is from, for the routes."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request

from homespun_core.types import CompletionRequest
from homespun_server.access.principal import Principal


def principal_of(request: Request) -> Principal:
    """As the gate in `app` found it."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


def bound(request: Request, wanted: CompletionRequest) -> CompletionRequest:
    """What a client wants, limited to what its user may read. Every completion passes here."""
    return replace(wanted, readable=principal_of(request).readable)
