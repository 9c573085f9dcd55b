"""Signing in: sessions, device codes, provisioned groups."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
