"""The editor a completion was for."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("completions", sa.Column("editor", sa.String(64)))


def downgrade() -> None:
    op.drop_column("completions", "editor")
