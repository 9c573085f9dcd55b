"""Usage by day, summed up."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("user", sa.String(256), nullable=False),
        sa.Column("repository", sa.String(64)),
        sa.Column("language", sa.String(64)),
        sa.Column("adapter", sa.String(64)),
        sa.Column("editor", sa.String(64)),
        sa.Column("opportunities", sa.Integer, nullable=False),
        sa.Column("hidden", sa.Integer, nullable=False),
        sa.Column("would_hide", sa.Integer, nullable=False),
        sa.Column("shown", sa.Integer, nullable=False),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("kept_characters", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_usage_days_day", "usage_days", ["day"])
    op.create_index("ix_usage_days_user_day", "usage_days", ["user", "day"])
    op.create_table(
        "latency_days",
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("repository", sa.String(64)),
        sa.Column("ms", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
    )
    op.create_index("ix_latency_days_day", "latency_days", ["day"])
    op.create_table("summed_days", sa.Column("day", sa.Integer, primary_key=True, autoincrement=False))


def downgrade() -> None:
    for table in ("summed_days", "latency_days", "usage_days"):
        op.drop_table(table)
