"""Devices, their outbox, and facts about the registry."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("device", _NAME, primary_key=True),
        sa.Column("module", _NAME, primary_key=True),
        sa.Column("generation", sa.Text, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("keys", sa.LargeBinary),
        sa.Column("password", sa.Text),
        sa.Column("thumbprint", sa.Text),
        sa.Column("second_thumbprint", sa.Text),
        sa.Column("authority", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("connected", sa.Boolean, nullable=False),
        sa.Column("connection_time", sa.BigInteger),
        sa.Column("last_activity", sa.BigInteger),
    )
    connected = sa.text("connected")
    op.create_index("devices_connected", "devices", ["device"], postgresql_where=connected, sqlite_where=connected)
    op.create_table(
        "outbox",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
