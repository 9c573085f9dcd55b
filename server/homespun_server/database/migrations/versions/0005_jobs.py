"""Work that workers lease, and how far events were told of."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("repository", sa.String(128), nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("commit", sa.String(64)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String(128)),
        sa.Column("lease_until", sa.Float),
        sa.Column("is_unwanted", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_by", sa.String(256), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("fraction", sa.Float),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("eta_s", sa.Float),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
        sa.Column("details", sa.JSON),
        sqlite_autoincrement=True,
    )
    for state in ("queued", "running"):
        where = sa.text(f"state = '{state}'")
        op.create_index(
            f"ix_jobs_one_{state}",
            "jobs",
            ["kind", "repository"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_index("ix_jobs_state_kind", "jobs", ["state", "kind"])
    op.create_table(
        "event_positions",
        sa.Column("place", sa.String(256), primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("event_positions")
    op.drop_table("jobs")
