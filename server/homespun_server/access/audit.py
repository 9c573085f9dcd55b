"""Who did what, as a chain: each entry holds the digest of the one before, so that none can be changed, left out or put
in between without all later ones telling. What is taken off the end is told by digests noted elsewhere (`heads`)."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from homespun_server.access.tables import access_state, audit

Decision = Literal["allowed", "denied"]
_FIRST = "0" * 64
_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks for a change, and from where."""

    id: str
    """A user's id, or what stands for somebody without an account: `local`, `api-token`, `cli:NAME`, `scim`."""
    origin: str
    """An address, or `cli`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Ids, never names of people: whoever is erased is no longer named by it."""

    number: int
    time_ms: int
    actor: str
    action: str
    object: str
    decision: str
    origin: str
    details: str
    """A JSON object. Never code, never a secret."""
    previous: str
    digest: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"details": json.loads(self.details)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    entries: int
    head: str
    """Digest of the last one."""
    problem: str | None
    has_noted: bool
    """Whether the digest that was asked for is there."""


def append(
    connection: Connection,
    by: Actor,
    action: str,
    object: str,
    *,
    decision: Decision = "allowed",
    details: Mapping[str, object] | None = None,
) -> None:
    """In the transaction of what it tells of: neither is without the other."""
    _lock(connection)
    last = connection.execute(select(audit.c.number, audit.c.digest).order_by(audit.c.number.desc()).limit(1)).first()
    entry: dict[str, Any] = {
        "number": last.number + 1 if last else 1,
        "time_ms": int(time.time() * 1e3),
        "actor": by.id[:128],
        "action": action,
        "object": object[:640],
        "decision": decision,
        "origin": by.origin[:128],
        "details": json.dumps(dict(details or {}), sort_keys=True, ensure_ascii=False),
        "previous": last.digest if last else _FIRST,
    }
    connection.execute(insert(audit).values(**entry, digest=digest_of(entry)))


def digest_of(entry: Mapping[str, Any]) -> str:
    content = {name: value for name, value in entry.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def entries(connection: Connection, after: int = 0, newest: int | None = None) -> Iterator[Entry]:
    """In order, from the one after a number on, or the `newest` last ones; never all in memory."""
    if newest is not None:
        last = connection.execute(select(audit.c.number).order_by(audit.c.number.desc()).limit(1)).scalar() or 0
        after = max(after, last - newest)
    while rows := connection.execute(_page(after)).all():
        yield from map(_entry, rows)
        after = rows[-1].number


def entries_where(connection: Connection, condition: ColumnElement[bool]) -> Iterator[Entry]:
    yield from map(_entry, connection.execute(select(audit).where(condition).order_by(audit.c.number)))


def verify(connection: Connection, noted: str | None = None, heads: Mapping[int, str] | None = None) -> Verified:
    """`noted`: a digest that was the head once. `heads`: digests by number that were, see `heads`."""
    found, last = _chained(connection, noted, heads or {}), max(heads or {}, default=0)
    if found.problem is None and last > found.entries:
        cut = f"entries {found.entries + 1} to {last} were taken off the end: they were noted while they were there"
        return replace(found, problem=cut)
    return found


def _chained(connection: Connection, noted: str | None, heads: Mapping[int, str]) -> Verified:
    number, previous, is_noted = 0, _FIRST, noted in (None, _FIRST)
    problem = None
    for entry in entries(connection):
        problem = _problem(entry, number + 1, previous, heads)
        if problem is not None:
            break
        number, previous = entry.number, entry.digest
        is_noted = is_noted or entry.digest == noted
    return Verified(entries=number, head=previous, problem=problem, has_noted=is_noted)


def _problem(entry: Entry, number: int, previous: str, heads: Mapping[int, str]) -> str | None:
    if entry.number != number or entry.previous != previous:
        return f"entry {number} is missing or replaced"
    if entry.digest != digest_of(asdict(entry)):
        return f"entry {number} was changed"
    if heads.get(number, entry.digest) != entry.digest:
        return f"entry {number} is another than the one that was noted: the log was written anew"
    return None


def _lock(connection: Connection) -> None:
    """One at a time: two that read the same last entry would both go on from it."""
    connection.execute(update(access_state).values(version=access_state.c.version))


def _page(after: int) -> Any:
    return select(audit).where(audit.c.number > after).order_by(audit.c.number).limit(_BATCH)


def _entry(row: Row[Any]) -> Entry:
    return Entry(**row._asdict())
