"""Days whose sums outlive what they were made of."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    final = sa.Column("is_final", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("summed_days", final)


def downgrade() -> None:
    op.drop_column("summed_days", "is_final")
