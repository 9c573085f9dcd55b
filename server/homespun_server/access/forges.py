"""Who may read what, as the forges say: asked every few minutes, written as grants that end soon.

A forge that can't be asked, or answers what we don't understand, has its grants end by themselves: unknown means no.
Accounts go by the names that their people have at the forge.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from sqlalchemy import Engine, delete, update
from sqlalchemy.exc import SQLAlchemyError

from homespun_core.errors import HomespunError, ServiceError
from homespun_core.forges import ForgeConfig
from homespun_server.access import reading
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.decisions import Guarded
from homespun_server.access.records import User
from homespun_server.access.tables import grants

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_PAGE = 100
_MAX_PAGES = 100
_ROUNDS_TRUSTED = 3
"""A grant ends after so many rounds in which the forge said nothing."""
_GITLAB_REPORTER = 20
"""The least who may read a private project's code."""

Ask = Callable[[str], httpx.Response]
"""A path of the API; raises ServiceError for anything but an answer."""
Readers = Callable[[Ask, str, Sequence[str]], frozenset[str]]
"""Who of these users (names) may read a repository (`owner/name`). Raises ServiceError."""


def _github(ask: Ask, path: str, users: Sequence[str]) -> frozenset[str]:
    rows = _pages(ask, f"/repos/{quote(path)}/collaborators?affiliation=all")
    return frozenset(str(row["login"]).lower() for row in rows if row["permissions"]["pull"] is True)


def _gitlab(ask: Ask, path: str, users: Sequence[str]) -> frozenset[str]:
    rows = _pages(ask, f"/projects/{quote(path, safe='')}/members/all?state=active")
    found = (row for row in rows if row["state"] == "active" and int(row["access_level"]) >= _GITLAB_REPORTER)
    return frozenset(str(row["username"]).lower() for row in found)


def _gitea(ask: Ask, path: str, users: Sequence[str]) -> frozenset[str]:
    """Its list of collaborators leaves out owners and teams, so each user is asked about."""
    found = set()
    for user in users:
        answer = ask(f"/repos/{quote(path)}/collaborators/{quote(user, safe='')}/permission")
        if answer.status_code != 404 and answer.json()["permission"] in ("read", "write", "admin", "owner"):
            found.add(user)
    return frozenset(found)


_READERS: Mapping[str, Readers] = {"github": _github, "gitlab": _gitlab, "gitea": _gitea, "forgejo": _gitea}


class ForgeFollower:
    """Asks each forge in a thread of its own, so that one that hangs holds up no other."""

    def __init__(
        self, engine: Engine, forges: Sequence[ForgeConfig], repositories: Callable[[], tuple[Guarded, ...]]
    ) -> None:
        self._engine, self._repositories = engine, repositories
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=[forge], name=f"forge {forge.host}", daemon=True)
            for forge in forges
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_TIMEOUT_S)

    def _follow(self, forge: ForgeConfig) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            repositories = self._repositories()
            wait_s = forge.minutes * 60 if repositories else 1.0  # at first, the index is still being opened
            try:
                for problem in sync(self._engine, forge, repositories):
                    logger.warning("%s", problem)
            except (HomespunError, SQLAlchemyError) as error:
                logger.warning("what %s says of access can't be written (%s)", forge.host, type(error).__name__)
            except Exception:  # a job loop: one bad round must not end the following
                logger.exception("asking %s for permissions failed", forge.host)


def sync(engine: Engine, forge: ForgeConfig, repositories: Iterable[Guarded]) -> list[str]:
    """One round; returns a line for each repository that the forge didn't answer for."""
    theirs = {g.id: path for g in repositories if (path := path_at(forge, g)) is not None}
    with engine.connect() as connection:
        users = [user for user in reading.all_users(connection) if user.active]
    problems: list[str] = []
    with _Asking(forge) as ask:
        for repository, path in theirs.items():
            try:
                allowed = _READERS[forge.kind](ask, path, [user.name for user in users])
            except ServiceError as error:
                problems.append(f"who may read {repository}: {error}; nobody by it, before long")
            except (ValueError, KeyError, TypeError) as error:
                problems.append(f"who may read {repository}: {forge.host} answers oddly ({type(error).__name__})")
            else:
                _write(engine, forge, repository, [user for user in users if user.name in allowed])
    return problems


def path_at(forge: ForgeConfig, guarded: Guarded) -> str | None:
    """`owner/name` there; None for a repository that isn't from there."""
    start = f"{forge.host}/"
    paths = sorted(a.removeprefix(start) for a in guarded.addresses if a.startswith(start))
    return paths[0] if len(paths) == 1 and not guarded.is_adapter else None


def _write(engine: Engine, forge: ForgeConfig, repository: str, readers: Sequence[User]) -> None:
    """Who is new gets a grant, who isn't named any more loses theirs, and the others' go on."""
    now = time.time()
    expires = now + forge.minutes * 60 * _ROUNDS_TRUSTED
    with engine.connect() as connection:
        before = reading.forge_grants(connection, repository, now)
    wanted = {user.id for user in readers}
    if before != wanted:
        by = Actor(id=f"forge:{forge.host}", origin=forge.host)
        with changing(engine, by) as change:
            for user in readers:
                if user.id not in before:
                    change.grant(user, repository, source="forge", expires=expires)
            for id in before - wanted:
                gone = reading.user_with(change.connection, id)
                if gone is not None:
                    change.revoke_grants(gone, repository, source="forge")
    with engine.begin() as connection:  # no change of rights, so nobody needs to look again
        mine = (grants.c.pattern == repository) & (grants.c.source == "forge")
        connection.execute(delete(grants).where(mine, grants.c.expires <= now))  # what has ended never goes on
        connection.execute(update(grants).where(mine).values(expires=expires))


class _Asking:
    """The forge's API as a function."""

    def __init__(self, forge: ForgeConfig) -> None:
        verify = ssl.create_default_context(cafile=str(forge.ca_file) if forge.ca_file else None)
        headers = {"Authorization": f"Bearer {forge.token()}", "Accept": "application/json"}
        if forge.kind in ("gitea", "forgejo"):
            headers["Authorization"] = f"token {forge.token()}"
        self._forge = forge
        self._client = httpx.Client(
            base_url=forge.api, headers=headers, timeout=_TIMEOUT_S, verify=verify, follow_redirects=False
        )

    def __enter__(self) -> Ask:
        return self._ask

    def __exit__(self, *failure: object) -> None:
        self._client.close()

    def _ask(self, path: str) -> httpx.Response:
        try:
            answer = self._client.get(path)
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._forge.host} can't be asked ({type(error).__name__})") from error
        if answer.status_code not in (200, 404):
            raise ServiceError(f"{self._forge.host} answers {answer.status_code}; check the token's rights")
        return answer


def _pages(ask: Ask, path: str) -> Iterator[Mapping[str, Any]]:
    for page in range(1, _MAX_PAGES + 1):
        answer = ask(f"{path}&per_page={_PAGE}&page={page}")
        if answer.status_code == 404:  # nothing of that name, or nothing that the token may see
            raise ServiceError("the forge has no such repository, or its token may not see it")
        rows = answer.json()
        if not isinstance(rows, list):
            raise ValueError("no list")
        yield from rows
        if len(rows) < _PAGE:
            return
    raise ServiceError(f"more than {_PAGE * _MAX_PAGES:,} people; grant it to teams instead")
