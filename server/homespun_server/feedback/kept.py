"""Completions in the database with their prompts, and how they leave it. `keeping` decides which get there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, delete, func, insert, select

from homespun_core.outcomes import Outcome
from homespun_indexer.forgotten import Forgotten, about
from homespun_server.access.audit import Actor
from homespun_server.access.changing import changing
from homespun_server.access.tables import audit
from homespun_server.feedback.tables import completions, kept_completions

_ON, _OFF = "completions.keep", "completions.keep-not"
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Without credentials and personal data: what training would make of them stands there instead."""

    completion: str
    time: float
    repository: str
    paths: tuple[str, ...]
    """The file's, then those of the snippets."""
    prompt: str
    """As a person can read it."""
    ids: tuple[int, ...]
    """As the model got it."""
    opening: str
    """The end of what stood before the cursor, which the model spells again: `text` comes after it."""
    text: str
    base: str
    """Digest of the base model."""
    adapter: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One with what became of it."""

    kept: Kept
    outcome: Outcome
    is_dismissed: bool


def is_gone(paths: Sequence[str], repository: str, requests: Sequence[Forgotten]) -> bool:
    """Whether somebody asked to have any of it forgotten. Who wrote a file isn't known here, so it may be anybody."""
    found = about(requests, repository)
    return any(r.author is not None or r.covers(tuple(paths), ()) for r in found)


def files(connection: Connection, since: float) -> Mapping[str, str]:
    query = select(kept_completions.c.completion, kept_completions.c.paths).where(kept_completions.c.time >= since)
    return {row.completion: row.paths[0] for row in connection.execute(query)}


def write(connection: Connection, found: Sequence[Kept]) -> None:
    """Those whose completion is known and which aren't there yet."""
    by_id = {kept.completion: kept for kept in found}
    known = set(connection.execute(select(completions.c.id).where(completions.c.id.in_(sorted(by_id)))).scalars())
    there = select(kept_completions.c.completion).where(kept_completions.c.completion.in_(sorted(by_id)))
    known -= set(connection.execute(there).scalars())
    rows = [asdict(by_id[id]) for id in sorted(known)]
    if rows:
        connection.execute(insert(kept_completions), rows)


def counted(connection: Connection) -> Mapping[str, int]:
    """By repository."""
    query = select(kept_completions.c.repository, func.count().label("number"))
    rows = connection.execute(query.group_by(kept_completions.c.repository))
    return {row.repository: row.number for row in rows}


def forget_outside(connection: Connection, named: Collection[str], limit: float) -> None:
    """What is older, and all of repositories that aren't named any more."""
    is_over = (kept_completions.c.time < limit) | kept_completions.c.repository.not_in(sorted(named))
    connection.execute(delete(kept_completions).where(is_over))


def forget(engine: Engine, request: Forgotten) -> int:
    """How many went. Each is looked at by the same rule by which none is kept later."""
    query = select(kept_completions.c.completion, kept_completions.c.repository, kept_completions.c.paths)
    with engine.begin() as connection:
        gone = [row.completion for row in connection.execute(query) if is_gone(row.paths, row.repository, (request,))]
        for first in range(0, len(gone), _BATCH):
            some = gone[first : first + _BATCH]
            connection.execute(delete(kept_completions).where(kept_completions.c.completion.in_(some)))
    return len(gone)


def announced(engine: Engine, named: Collection[str]) -> None:
    """That it was turned on or off is in the audit log, or it isn't. Raises StorageError."""
    with engine.connect() as connection:
        is_same = _on(connection) == set(named)
    if is_same:
        return
    with changing(engine, Actor(id="settings", origin="homespun.toml")) as change:
        before = _on(change.connection)
        for id in sorted(set(named) - before):
            change.note(_ON, f"repository:{id}")
        for id in sorted(before - set(named)):
            change.note(_OFF, f"repository:{id}")


def _on(connection: Connection) -> set[str]:
    said = select(audit.c.object, audit.c.action).where(audit.c.action.in_((_ON, _OFF))).order_by(audit.c.number)
    last = {row.object.removeprefix("repository:"): row.action for row in connection.execute(said)}
    return {id for id, action in last.items() if action == _ON}
