"""The two sides of devices' twins, apart from the devices, which every login reads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

_NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "twins",
        sa.Column("device", _NAME, primary_key=True),
        sa.Column("module", _NAME, primary_key=True),
        sa.Column("desired", _JSON, nullable=False),
        sa.Column("desired_version", sa.BigInteger, nullable=False),
        sa.Column("desired_updated", sa.BigInteger),
        sa.Column("reported", _JSON, nullable=False),
        sa.Column("reported_version", sa.BigInteger, nullable=False),
        sa.Column("reported_updated", sa.BigInteger),
    )
