"""What is known of one person: handed out in full, and erased in full."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select

from homespun_core import registry
from homespun_core.paths import DataDir
from homespun_server.access import reading
from homespun_server.access.changing import changing
from homespun_server.access.personal import erased, exported
from homespun_server.access.records import User
from homespun_server.access.tables import users
from homespun_server.app import build_app
from homespun_server.database.schema import metadata
from homespun_server.feedback.facts import CompletionFact, Event
from homespun_server.feedback.store import FeedbackStore
from homespun_server.jobs.store import JobStore
from homespun_server.signin.tables import identities, sessions
from tests.server.access.conftest import ADMIN

EVERYTHING = build_app
"""Imported so that every table of the server is in the schema."""


def _person(engine: Engine, name: str) -> tuple[User, str]:
    """Somebody with something in each table, and the secret of their token."""
    with changing(engine, ADMIN) as change:
        user = change.add_user(name, role="developer", email=f"{name}@example.com")
        change.set_teams(user, ["shop"], "oidc")
        change.grant(user, "web")
        token = change.add_token(user, f"{name}s laptop")
        signed_in = {"user": user.id, "credential": f"secret-of-{name}", "created": 1.0, "seen": 2.0}
        change.connection.execute(insert(sessions).values(id=f"cookie-of-{name}", **signed_in))
        known_as = {"issuer": "https://idp", "subject": f"subject-{name}", "user": user.id, "created": 1.0}
        change.connection.execute(insert(identities).values(known_as))
    fact = CompletionFact(
        id=f"cmpl-{name}",
        time=time.time(),
        user=user.id,
        repository=None,
        language="python",
        adapter=None,
        characters=3,
        first_line=3,
        latency_ms=1.0,
    )
    store = FeedbackStore(engine)
    store.write([fact])
    store.write([Event(completion=fact.id, kind="shown", time=time.time(), user=user.id)])
    return user, token.secret


def _dump(engine: Engine) -> str:
    """All that is in the database."""
    with engine.connect() as connection:
        rows: list[Any] = []
        for table in metadata.sorted_tables:
            rows += [[table.name, *map(str, row)] for row in connection.execute(select(table))]
    return json.dumps(rows)


def test_an_export_has_all_that_is_known_and_nothing_to_sign_in_with(engine: Engine) -> None:
    ada, secret = _person(engine, "ada")
    _person(engine, "bob")
    with engine.connect() as connection:
        told = json.dumps(exported(connection, ada), default=list)
    for known in ("ada@example.com", "shop", "web", "adas laptop", "subject-ada", "cmpl-ada", '"shown"'):
        assert known in told
    assert "cookie-of-ada" not in told and "secret-of-ada" not in told and secret not in told
    assert "bob" not in told


def test_who_is_erased_is_in_no_table_but_as_a_number(engine: Engine, tmp_path: Path) -> None:
    ada, _ = _person(engine, "ada")
    bob, _ = _person(engine, "bob")
    with engine.connect() as connection:
        before = exported(connection, bob)
    with changing(engine, ADMIN) as change:
        assert erased(change, ada, DataDir(tmp_path)) == 1
    dump = _dump(engine)
    assert all(mark not in dump for mark in ("ada@", "adas", "-ada", '"ada"')) and f"erased-{ada.id}" in dump
    with engine.connect() as connection:
        assert exported(connection, bob) == before
        found = reading.user_with(connection, ada.id)
        assert found is not None and not found.active and asdict(found)["email"] is None
        assert [user.name for user in reading.all_users(connection)] == ["bob"]


def test_every_table_that_names_a_user_goes_with_them() -> None:
    """Those that don't are known to hold no person, or to be asked for by name in `personal`."""
    naming = {table.name for table in metadata.sorted_tables for c in table.columns if c.references(users.c.id)}
    by_name = {
        t.name for t in metadata.sorted_tables for c in t.columns if c.name in ("user", "asked_by", "actor", "who")
    }
    assert by_name - naming == {"completions", "audit", "jobs", "usage_days"}


def test_who_is_erased_is_named_in_no_job_and_no_adapters_history(engine: Engine, tmp_path: Path) -> None:
    data, store = DataDir(tmp_path), JobStore(engine)
    for change_of, by in ((registry.pin, "ada"), (registry.unpin, "adam"), (registry.pin, "ada")):
        change_of(_adapter(data), by=by)
    with changing(engine, ADMIN) as change:
        ada = change.add_user("ada")
    for repository, by in (("one", "ada"), ("two", "adam")):
        store.cancel(store.add("train", repository, repository, asked_by=by).id, by)
    with changing(engine, ADMIN) as change:
        erased(change, ada, data)
    assert sorted(job.reason for job in store.jobs()) == sorted((f"cancelled by {ada.id}", "cancelled by adam"))
    assert [event.by for event in registry.history(data.adapters("shop"))[-3:]] == [ada.id, "adam", ada.id]


def _adapter(data: DataDir) -> Path:
    place = data.adapters("shop")
    if not place.exists():
        version = place / registry.new_version("a" * 8)
        with registry.publish_adapter(version, fingerprint="a", sources={"base_model": "b"}, report={}) as folder:
            (folder / "adapter_config.json").write_text("{}")
            (folder / "adapter_model.safetensors").write_bytes(b"")
        registry.promote(place, version.name)
    return place
