"""An adapter of one's own: to ask for one, to see what became of it, and to have all of it deleted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from homespun_core import personal, registry
from homespun_core.errors import ConfigError
from homespun_core.paths import DataDir
from homespun_core.personal import Wish
from homespun_indexer.people import author_hash
from homespun_server.access import reading
from homespun_server.access.desk import NOT_THERE, Desk, NotThereError, anybody
from homespun_server.access.http import ForbiddenError
from homespun_server.access.records import User
from homespun_server.access.rights import may_have

router = APIRouter(prefix="/v1/homespun/me/adapter", tags=["oneself"], responses={404: {"description": NOT_THERE}})

Me = Annotated[Desk, Depends(anybody)]


def _person(desk: Me) -> Desk:
    """It is its owner's to ask for and to delete, in their editor as elsewhere: what a token that got lost can do with
    that is delete what is trained again. One for programs that look at the index has no part in it."""
    if desk.principal.scopes.isdisjoint(("complete", "admin")):
        raise ForbiddenError("personal")
    return desk


Mine = Annotated[Desk, Depends(_person)]


class OwnAdapter(BaseModel):
    wanted: bool
    since: float | None = None
    adapters: dict[str, str | None] = {}
    """By repository, the version that is live."""
    not_served: dict[str, str] = {}
    """Of these, why not, by repository."""


class Deleted(BaseModel):
    deleted: list[str]
    """Repositories."""


@router.get("")
def seen(desk: Me) -> OwnAdapter:
    account, data = _account(desk), _data(desk)
    wish = next((wish for wish in personal.wishes(data) if wish.user == account), None)
    places = personal.adapters_of(data, account)
    live = {personal.repository_of(place.name): registry.aliases(place).champion for place in places}
    not_served = _not_served(desk, account, [id for id, version in live.items() if version])
    return OwnAdapter(wanted=wish is not None, since=wish.since if wish else None, adapters=live, not_served=not_served)


@router.put("")
def want(desk: Mine) -> OwnAdapter:
    """Trained from now on, on lines that whoever asks has committed themselves, for them alone."""
    account, data = _account(desk), _data(desk)
    with desk.reading() as connection:
        person = reading.person(connection, account)
    assert person is not None
    wish = _wish(data, person.user)
    if guarded := desk.runtime.guarded():
        wish = replace(wish, may_have=may_have(person, guarded, desk.runtime.settings))
    personal.want(data, wish)
    with desk.changing() as change:
        change.note("personal.want", f"user:{account}")
    return seen(desk)


@router.delete("")
def take_back(desk: Mine) -> Deleted:
    account = _account(desk)
    gone = personal.take_back(_data(desk), account)
    with desk.changing() as change:
        change.note("personal.take-back", f"user:{account}")
    return Deleted(deleted=gone)


def _not_served(desk: Desk, account: str, repositories: Sequence[str]) -> dict[str, str]:
    """Nothing while this server loads."""
    if desk.runtime.loaded is None:
        return {}
    watcher, readable = desk.runtime.loaded.watcher, desk.principal.readable
    why = {id: watcher.why_not_own(account, id, readable) for id in repositories}
    return {id: reason for id, reason in why.items() if reason}


def _wish(data: DataDir, user: User) -> Wish:
    if not user.email:
        raise ConfigError(
            f"{user.name}: the account has no e-mail address to find commits by (one that the identity provider hasn't"
            f" verified is none); an admin can set it: homespun user email {user.name} ADDRESS"
        )
    return Wish(user=user.id, name=user.name, authors=(author_hash(data)(user.email),), since=time.time())


def _account(desk: Desk) -> str:
    if not desk.principal.user:
        raise NotThereError("this token or session belongs to no account; make one: homespun user add NAME")
    return desk.principal.user


def _data(desk: Desk) -> DataDir:
    return DataDir(desk.runtime.settings.data_root)
