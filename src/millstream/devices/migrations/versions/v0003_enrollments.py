"""Enrollments, and by which one a device has come in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("devices", sa.Column("enrollment", _NAME))
    op.create_index("devices_enrollment", "devices", ["enrollment"])
    op.create_table(
        "enrollments",
        sa.Column("id", _NAME, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("keys", sa.LargeBinary, nullable=False),
        sa.Column("device", sa.Text),
        sa.Column("tags", _JSON, nullable=False),
        sa.Column("desired", _JSON, nullable=False),
        sa.Column("again", sa.Text, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
    )
