"""Completions of a prompt that is tried, without reading those of others."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    tried = sa.text("prompt_version IS NOT NULL")
    name, columns = "ix_completions_prompt_version_time", ["prompt_version", "time"]
    op.create_index(name, "completions", columns, sqlite_where=tried, postgresql_where=tried)


def downgrade() -> None:
    op.drop_index("ix_completions_prompt_version_time", "completions")
