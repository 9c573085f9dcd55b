"""What everybody may see and do about themselves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from homespun_server.access import reading, wire
from homespun_server.access.admin import made_token
from homespun_server.access.changing import Change
from homespun_server.access.desk import NOT_THERE, Desk, NotThereError, anybody
from homespun_server.access.http import ForbiddenError
from homespun_server.access.personal import exported
from homespun_server.access.records import User

router = APIRouter(prefix="/v1/homespun/me", tags=["oneself"], responses={404: {"description": NOT_THERE}})


def _trusted(desk: Annotated[Desk, Depends(anybody)]) -> Desk:
    """With a session, or a token whose scopes are for more than an editor: else one that got lost could make others."""
    if "admin" not in desk.principal.scopes:
        raise ForbiddenError("manage-tokens")
    return desk


Own = Annotated[Desk, Depends(_trusted)]


@router.get("")
def whoami(desk: Annotated[Desk, Depends(anybody)]) -> wire.Whoami:
    me = desk.principal
    return wire.Whoami(
        id=me.user,
        name=me.name,
        role=me.role,
        scopes=sorted(me.scopes),
        repositories=None if me.readable is None else sorted(me.readable),
        keeps_completions=desk.runtime.keeps_of(me),
    )


@router.get("/tokens")
def tokens(desk: Own) -> list[wire.TokenSeen]:
    with desk.reading() as connection:
        return [wire.token_seen(token) for token in reading.all_tokens(connection, _account(desk))]


@router.post("/tokens", status_code=201)
def add_token(desk: Own, new: wire.NewToken) -> wire.TokenMade:
    """With no more scopes than the token or session that asks for it."""
    if not set(new.scopes) <= desk.principal.scopes:
        raise ForbiddenError("manage-tokens")
    with desk.changing() as change:
        return made_token(change, _me(desk, change), new)


@router.delete("/tokens/{id}", status_code=204)
def revoke_token(desk: Own, id: str) -> None:
    with desk.changing() as change:
        mine = {token.id for token in reading.all_tokens(change.connection, _account(desk))}
        if id not in mine or not change.revoke_token(id):
            raise NotThereError("there is no such token that is still good")


@router.get("/export")
def export(desk: Own) -> dict[str, Any]:
    """All that is known of whoever asks."""
    with desk.reading() as connection:
        user = reading.user_with(connection, _account(desk))
        assert user is not None
        return exported(connection, user)


def _account(desk: Desk) -> str:
    if not desk.principal.user:
        raise NotThereError("this token or session belongs to no account; make one: homespun user add NAME")
    return desk.principal.user


def _me(desk: Desk, change: Change) -> User:
    user = reading.user_with(change.connection, _account(desk))
    assert user is not None
    return user
