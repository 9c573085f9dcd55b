"""People, what they may read, their tokens, and the log of who changed what. Times are seconds since 1970."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
)

from homespun_server.database.schema import metadata

users = Table(
    "users",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("email", String(320)),
    Column("role", String(16), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created", Float, nullable=False),
    Column("erased", Float),
)
"""Never deleted: while there is a row, requests need a token, and the log goes on naming the same people. One that was
erased keeps its id alone."""

teams = Table(
    "teams",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created", Float, nullable=False),
)
members = Table(
    "members",
    metadata,
    Column("team", String(32), ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("source", String(16), primary_key=True),
)
"""With who says so, so that what one source takes back another may still say."""

grants = Table(
    "grants",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), index=True),
    Column("team", String(32), ForeignKey("teams.id", ondelete="CASCADE"), index=True),
    Column("pattern", String(512), nullable=False),
    Column("source", String(16), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    CheckConstraint('("user" IS NULL) <> (team IS NULL)', name="ck_grants_one_subject"),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("user", String(32), ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("last_used", Float),
    Column("revoked", Float),
)
access_state = Table(
    "access_state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""One row. Every change of the tables above counts it up, and holds its lock until the change is written."""

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("object", String(640), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("origin", String(128), nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
)
"""Triggers refuse to change or delete its rows."""
