"""The prompt a completion had, where several are tried."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("completions", sa.Column("prompt_version", sa.String(64)))


def downgrade() -> None:
    op.drop_column("completions", "prompt_version")
