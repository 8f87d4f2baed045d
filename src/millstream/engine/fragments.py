"""Pieces of DuckDB's SQL."""

from __future__ import annotations

import re

_NAME = re.compile(r'"[^"]+"|\w+')


def quoted(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a constant."""
    return "'" + value.replace("'", "''") + "'"


def is_name(sql: str) -> bool:
    """Whether a fragment is a column and nothing else."""
    return _NAME.fullmatch(sql) is not None


def finite(sql: str) -> str:
    """A floating fragment that is NULL where it is infinite or no number."""
    return f"CASE WHEN isfinite({sql}) THEN {sql} END"


def guarded(sql: str) -> str:
    """A fragment that is NULL where it would fail."""
    return sql if is_name(sql) else f"TRY({sql})"
