"""Columns of results as JSON shows them."""

from __future__ import annotations

from millstream.engine.aggregate import FLOATS
from millstream.engine.fragments import finite, guarded
from millstream.engine.plan import Column


def json_value(column: Column) -> str:
    """A column's fragment as JSON shows it: times in RFC 3339, and numbers that JSON does not have as null."""
    sql = guarded(column.sql)
    if column.type.startswith("TIMESTAMP"):
        return f"replace({sql}::TIMESTAMP::VARCHAR, ' ', 'T') || 'Z'"
    return finite(sql) if column.type in FLOATS else sql
