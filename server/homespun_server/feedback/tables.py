"""What is remembered of completions: one row for each, and one for each thing that became of it. No code, but in
`kept_completions`, where an admin wants that."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from homespun_server.database.schema import metadata

_TRIED = text("prompt_version IS NOT NULL")
completions = Table(
    "completions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("time", Float, nullable=False, index=True),
    Column("user", String(256), nullable=False, index=True),
    Column("repository", String(64)),
    Column("language", String(64)),
    Column("adapter", String(64)),
    Column("characters", Integer, nullable=False),
    Column("first_line", Integer, nullable=False),
    Column("latency_ms", Float, nullable=False),
    Column("features", JSON, nullable=False),
    Column("probability", Float),
    Column("verdict", String(16)),
    Column("editor", String(64)),
    Column("prompt_version", String(64)),
    Index("ix_completions_repository_time", "repository", "time"),
    Index("ix_completions_prompt_version_time", "prompt_version", "time", sqlite_where=_TRIED, postgresql_where=_TRIED),
)
events = Table(
    "events",
    metadata,
    Column("completion", String(64), ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("time", Float, nullable=False),
    Column("characters", Integer, nullable=False),
)
kept_completions = Table(
    "kept_completions",
    metadata,
    Column("completion", String(64), ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
    Column("time", Float, nullable=False, index=True),
    Column("repository", String(64), nullable=False, index=True),
    Column("paths", JSON, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("ids", JSON, nullable=False),
    Column("opening", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("base", String(64), nullable=False),
    Column("adapter", String(256)),
)
"""The one table with code in it: see `keeping`."""
usage_days = Table(
    "usage_days",
    metadata,
    Column("day", Integer, nullable=False, index=True),
    Column("user", String(256), nullable=False),
    Column("repository", String(64)),
    Column("language", String(64)),
    Column("adapter", String(64)),
    Column("editor", String(64)),
    Column("opportunities", Integer, nullable=False),
    Column("hidden", Integer, nullable=False),
    Column("would_hide", Integer, nullable=False),
    Column("shown", Integer, nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("kept_characters", BigInteger, nullable=False),
    Index("ix_usage_days_user_day", "user", "day"),
)
latency_days = Table(
    "latency_days",
    metadata,
    Column("day", Integer, nullable=False, index=True),
    Column("repository", String(64)),
    Column("ms", Integer, nullable=False),
    Column("number", Integer, nullable=False),
)
summed_days = Table(
    "summed_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("is_final", Boolean, nullable=False, server_default=false()),
)
"""Days since 1970 (UTC) whose sums stand in the two tables above; whoever changes anything of a day takes it out. Of a
final one something was deleted for its age: its sums are never made again."""
