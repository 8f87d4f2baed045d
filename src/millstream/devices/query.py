"""Queries over devices: a condition as in SQL's WHERE, translated for the database.

    tags.site = 'a' AND status = 'enabled' AND NOT connected

Comparing is strict about types: `tags.floor > 3` holds where the tag is a number above 3, and not for texts. What has
no value is neither equal nor unequal to anything, as in SQL. Times are texts in RFC 3339.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, not_, or_, true
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError

from millstream.clock import to_micros
from millstream.devices.fields import Column, Field, Kind, find_field
from millstream.errors import QueryError

_MAX_CHARACTERS = 2_000
_HELP = "a query compares fields with texts, numbers, true and false, as in: tags.site = 'a' AND NOT connected"

_OPERATORS: dict[type[exp.Expr], Callable[[Any, Any], ColumnElement[bool]]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE}

Condition = ColumnElement[bool]


def translate(text: str, dialect: str) -> Condition:
    """The condition for a database (`sqlite` or `postgresql`). `QueryError` says what is wrong, and where."""
    if len(text) > _MAX_CHARACTERS:
        raise QueryError(f"a query of more than {_MAX_CHARACTERS} characters")
    try:
        return _Translator(dialect).condition(_parse(text))
    except RecursionError:
        raise QueryError("the query has too many parentheses") from None


def _parse(text: str) -> exp.Expr:
    try:
        parsed = DuckDB().parse_into(exp.Condition, text)
    except ParseError as error:
        found = error.errors[0]
        raise QueryError(f"the query cannot be read near {found.get('highlight')!r}", 1, found.get("col")) from None
    except TokenError:
        raise QueryError("the query cannot be read: a quote or a comment is not closed") from None
    if len(parsed) != 1 or parsed[0] is None:
        raise QueryError(f"the query is empty; {_HELP}")
    return parsed[0]


class _Translator:
    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def condition(self, node: exp.Expr) -> Condition:
        if isinstance(node, exp.Paren):
            return self.condition(node.this)
        if isinstance(node, exp.And | exp.Or):
            joined = and_ if isinstance(node, exp.And) else or_
            return joined(*(self.condition(each) for each in node.flatten()))
        if isinstance(node, exp.Not):
            return not_(self.condition(node.this))
        if type(node) in _OPERATORS:
            return self._comparison(node)
        if isinstance(node, exp.Column | exp.Dot):
            return self._compared(self._field(node), operator.eq, True)
        return self._predicate(node)

    def _predicate(self, node: exp.Expr) -> Condition:
        if isinstance(node, exp.In) and node.expressions:
            its = self._field(node.this)
            return or_(*(self._compared(its, operator.eq, _value(each)) for each in node.expressions))
        if isinstance(node, exp.Between):
            its, low, high = self._field(node.this), _value(node.args["low"]), _value(node.args["high"])
            return and_(self._compared(its, operator.ge, low), self._compared(its, operator.le, high))
        if isinstance(node, exp.Is):
            its = self._field(node.this)
            if isinstance(node.expression, exp.Null):
                return not_(its.exists())
            return self._compared(its, operator.eq, _value(node.expression)).is_(true())
        if isinstance(node, exp.StartsWith):
            its = self._field(node.this)
            if isinstance(its, Column) and its.is_time:
                raise QueryError("starts_with is for texts; compare a time with < and >")
            return self._compared(its, _starts_with, _value(node.expression))
        raise QueryError(f"{node.sql(dialect=DuckDB)!r} is not supported; {_HELP}")

    def _comparison(self, node: exp.Expr) -> Condition:
        kind, left, right = type(node), node.this, node.expression
        if not isinstance(left, exp.Column | exp.Dot):
            kind, left, right = _MIRRORED.get(kind, kind), right, left
        return self._compared(self._field(left), _OPERATORS[kind], _value(right))

    def _field(self, node: exp.Expr) -> Field:
        if not isinstance(node, exp.Column | exp.Dot):
            raise QueryError(f"{node.sql(dialect=DuckDB)!r} is no field; {_HELP}")
        return find_field([part.name for part in node.parts], self._dialect)

    def _compared(self, its: Field, how: Callable[[Any, Any], Condition], value: str | float | bool) -> Condition:
        kind: Kind = float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
        if kind not in its.kinds:
            raise QueryError(f"{value!r} is compared with a field that is never {_NAMES[kind]}")
        if isinstance(its, Column) and its.is_time:
            return how(its.as_(kind), _instant(value))
        return how(its.as_(kind), value)


_NAMES: dict[Kind, str] = {str: "a text", float: "a number", bool: "true or false"}


def _starts_with(field: ColumnElement[str], beginning: str) -> Condition:
    return func.substr(field, 1, len(beginning)) == beginning


def _value(node: exp.Expr) -> str | float | bool:
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Neg):
        return -_number(node.this)
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    return _number(node)


def _number(node: exp.Expr) -> float:
    if not isinstance(node, exp.Literal) or node.is_string:
        raise QueryError(f"{node.sql(dialect=DuckDB)!r} is no text, number, true or false; {_HELP}")
    text = str(node.this)
    return int(text) if text.isdecimal() and len(text) < 16 else float(text)


def _instant(value: object) -> int:
    try:
        return to_micros(datetime.fromisoformat(str(value)))
    except ValueError:
        raise QueryError(f"{value!r} is no time in RFC 3339, such as 2026-01-01T00:00:00Z") from None
