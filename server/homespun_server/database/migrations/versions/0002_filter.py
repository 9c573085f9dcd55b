"""What the show/hide filter said of a completion."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("completions", sa.Column("probability", sa.Float))
    op.add_column("completions", sa.Column("verdict", sa.String(16)))


def downgrade() -> None:
    op.drop_column("completions", "verdict")
    op.drop_column("completions", "probability")
