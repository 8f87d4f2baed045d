"""Columns of results as JSON shows them."""

from __future__ import annotations

import re

from millstream.engine.aggregate import FLOATS
from millstream.engine.fragments import finite, guarded
from millstream.engine.plan import Column

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_WORD_DIGITS = 18  # of a decimal that is computed in 64 bits
_FRACTION = 9  # digits behind the point that leave as many before it


def json_value(column: Column, *, narrow: bool = False) -> str:
    """A column's fragment as JSON shows it: times in RFC 3339, and numbers that JSON does not have as null.

    `narrow`: decimals of more than 18 digits fail where a value needs them. A product has many digits and seldom
    needs them; to write it as text takes four times as long as one of 64 bits."""
    sql = guarded(column.sql)
    if narrow and (decimal := _DECIMAL.fullmatch(column.type)):
        digits, fraction = int(decimal[1]), int(decimal[2])
        if digits > _WORD_DIGITS and fraction <= _FRACTION:
            return f"{sql}::DECIMAL({_WORD_DIGITS},{fraction})"
    if column.type.startswith("TIMESTAMP"):
        return f"replace({sql}::TIMESTAMP::VARCHAR, ' ', 'T') || 'Z'"
    return finite(sql) if column.type in FLOATS else sql
