"""Enrollments of devices that show a certificate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    for name in ("authority", "thumbprint", "second_thumbprint"):
        op.add_column("enrollments", sa.Column(name, sa.Text))
