"""Completions with their prompts, of repositories where an admin wants them kept."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "kept_completions",
        sa.Column("completion", sa.String(64), sa.ForeignKey("completions.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("repository", sa.String(64), nullable=False),
        sa.Column("paths", sa.JSON, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("ids", sa.JSON, nullable=False),
        sa.Column("opening", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("base", sa.String(64), nullable=False),
        sa.Column("adapter", sa.String(256)),
    )
    op.create_index("ix_kept_completions_time", "kept_completions", ["time"])
    op.create_index("ix_kept_completions_repository", "kept_completions", ["repository"])


def downgrade() -> None:
    op.drop_table("kept_completions")
