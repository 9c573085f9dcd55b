"""Signing in: sessions, device codes, whom the identity provider knows and has announced."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE")),
        sa.Column("credential", sa.String(64), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
    )
    op.create_index("ix_sessions_user", "sessions", ["user"])
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(512), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("user", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_index("ix_identities_user", "identities", ["user"])
    op.create_table(
        "provisioned_users",
        sa.Column("user", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_name_key", sa.String(255), nullable=False, unique=True),
        sa.Column("external_id", sa.String(255)),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
    )
    op.create_index("ix_provisioned_users_external_id", "provisioned_users", ["external_id"])
    op.create_table(
        "provisioned_groups",
        sa.Column("team", sa.String(32), sa.ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("external_id", sa.String(255)),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
    )
    op.create_table(
        "device_codes",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_code", sa.String(64), nullable=False, unique=True),
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(128), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("interval_s", sa.Integer, nullable=False),
        sa.Column("polled", sa.Float),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("user", sa.String(32), sa.ForeignKey("users.id", ondelete="CASCADE")),
    )


def downgrade() -> None:
    for table in ("device_codes", "provisioned_groups", "provisioned_users", "identities", "sessions"):
        op.drop_table(table)
