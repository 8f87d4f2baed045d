"""Enrollments whose devices an application decides about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("enrollments", sa.Column("allocate", sa.Boolean, nullable=False, server_default=sa.false()))
