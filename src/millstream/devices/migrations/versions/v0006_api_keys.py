"""Keys of the HTTP API."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("device", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("former", sa.LargeBinary),
        sa.Column("former_until", sa.BigInteger),
        sa.Column("expires", sa.BigInteger),
        sa.Column("by", sa.Text),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
