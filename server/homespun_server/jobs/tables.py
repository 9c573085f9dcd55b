"""Jobs as rows. That one about a thing waits and one runs, at most, the database itself sees to."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text, text

from homespun_server.database.schema import metadata


def _one(state: str) -> Index:
    where = text(f"state = '{state}'")
    return Index(f"ix_jobs_one_{state}", "kind", "repository", unique=True, sqlite_where=where, postgresql_where=where)


jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("repository", String(128), nullable=False),
    Column("source", Text, nullable=False),
    Column("commit", String(64)),
    Column("priority", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("worker", String(128)),
    Column("lease_until", Float),
    Column("is_unwanted", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("asked_by", String(256), nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("fraction", Float),
    Column("words", Text, nullable=False),
    Column("eta_s", Float),
    Column("result", Text, nullable=False),
    Column("log", Text, nullable=False),
    Column("details", JSON),
    _one("queued"),
    _one("running"),
    Index("ix_jobs_state_kind", "state", "kind"),
    sqlite_autoincrement=True,
)
positions = Table(
    "event_positions",
    metadata,
    Column("place", String(256), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""How much of a file that grows was made into events already."""
