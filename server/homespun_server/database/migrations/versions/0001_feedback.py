"""Completions, and what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "completions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("repository", sa.String(64)),
        sa.Column("language", sa.String(64)),
        sa.Column("adapter", sa.String(64)),
        sa.Column("characters", sa.Integer, nullable=False),
        sa.Column("first_line", sa.Integer, nullable=False),
        sa.Column("latency_ms", sa.Float, nullable=False),
        sa.Column("features", sa.JSON, nullable=False),
    )
    op.create_index("ix_completions_time", "completions", ["time"])
    op.create_index("ix_completions_user", "completions", ["user"])
    op.create_index("ix_completions_repository_time", "completions", ["repository", "time"])
    op.create_table(
        "events",
        sa.Column("completion", sa.String(64), sa.ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("characters", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("events")
    op.drop_table("completions")
