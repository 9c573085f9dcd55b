"""Whom a request is from, for the routes."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request

from homespun_core.types import CompletionRequest
from homespun_server.access.principal import Principal
from homespun_server.feedback.editors import editor_of


def principal_of(request: Request) -> Principal:
    """As the gate in `app` found it."""
    principal = request.state.principal
    assert isinstance(principal, Principal)
    return principal


def bound(request: Request, wanted: CompletionRequest) -> CompletionRequest:
    """What a client wants, limited to what its user may read. Every completion passes here."""
    editor = editor_of(request.headers.get("user-agent", ""))
    return replace(wanted, readable=principal_of(request).readable, editor=editor)
