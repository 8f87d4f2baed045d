"""Queued commands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "commands",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("device", _NAME, nullable=False),
        sa.Column("module", _NAME, nullable=False),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("queued", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("sent", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("commands_device", "commands", ["device", "module", "number"])
    op.create_index("commands_expires", "commands", ["expires"])
    op.create_index("commands_sent", "commands", ["sent"])
