"""JOIN with reference data: each event looks its row up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.engine.lookup import Lookup, LookupColumn
from millstream.log.contract import StreamSpec
from millstream.sql.bounds import conjuncts
from millstream.sql.limits import check_functions, check_parts
from millstream.sql.near import nearest
from millstream.sql.scope import Scope, is_number
from millstream.sql.text import QueryText

Columns = Mapping[str, str]
"""The columns of a reference and their DuckDB types."""

Bind = Callable[[exp.Expr], str]
"""Finds the type of a resolved expression over an event."""

_EXAMPLE = "FROM telemetry t JOIN machines m ON t.machine = m.id"


@dataclass(frozen=True, slots=True)
class Joined:
    """A reference that a query joins its events with, under an alias; `on` are the conditions as written."""

    reference: str
    alias: str
    optional: bool
    on: tuple[exp.Expr, ...]


def joined(
    query: QueryText, streams: Mapping[str, StreamSpec], references: Mapping[str, Columns], taken: set[str]
) -> list[Joined]:
    """The JOIN clauses of a query; `taken` are names that stand for the stream. `QueryError`."""
    found: list[Joined] = []
    for join in query.select.args.get("joins") or ():
        name, alias = _table(query, join, streams, references)
        if alias in taken:
            raise query.error(f"two tables are called {alias!r}; give one another name: JOIN {name} AS …", join.this)
        taken = {*taken, alias}
        side, kind = join.side.upper(), join.kind.upper()
        if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER") or join.method:
            words = " ".join(filter(None, (join.method, side, kind)))
            raise query.error(f"{words} JOIN is not supported; there are JOIN and LEFT JOIN", join.this)
        on = join.args.get("on")
        if on is None:
            raise query.error(f"JOIN says with ON which columns are equal, as in {_EXAMPLE}", join.this)
        check_parts(query, on)
        check_functions(query, on)
        found.append(Joined(name, alias, side == "LEFT", tuple(conjuncts(on))))
    return found


def lookups(
    query: QueryText, scope: Scope, its: Sequence[Joined], resolved: Sequence[Sequence[exp.Expr]], bind: Bind
) -> tuple[Lookup, ...]:
    """What the engine looks up, when all names and types are known."""
    made = []
    for one, conditions in zip(its, resolved, strict=True):
        pairs = [
            _pair(query, scope, one, written, node, bind) for written, node in zip(one.on, conditions, strict=True)
        ]
        columns = [LookupColumn(name, path, scope.type_of(name)) for name, path in scope.looked_up[one.alias].items()]
        verb = " and ".join(query.written(node) for node in one.on)
        made.append(
            Lookup(one.reference, tuple(columns), tuple(pairs), one.optional, f"{one.reference} {one.alias}, {verb}")
        )
    return tuple(made)


def _table(
    query: QueryText, join: exp.Join, streams: Mapping[str, StreamSpec], references: Mapping[str, Columns]
) -> tuple[str, str]:
    """The reference that is joined, and its alias."""
    table = join.this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or table.db:
        raise query.error(f"JOIN takes the name of reference data, as in {_EXAMPLE}", table)
    if table.name in references:
        return table.name, table.alias or table.name
    known = sorted([*references, *streams])
    there = nearest(table.name, known) or f"; there are {', '.join(known)}"
    raise query.error(f"there is no stream or reference data {table.name!r}{there}", table)


def _pair(
    query: QueryText, scope: Scope, one: Joined, written: exp.Expr, node: exp.Expr, bind: Bind
) -> tuple[str, str]:
    """What an event has, and the column of the reference that is equal to it."""
    if isinstance(node, exp.EQ):
        for value, column in ((node.this, node.expression), (node.expression, node.this)):
            is_its = isinstance(column, exp.Column) and column.name in scope.looked_up[one.alias]
            others = {inner.name for inner in value.find_all(exp.Column)}
            if is_its and others and not others & set(scope.looked_up[one.alias]):
                return _as(value, bind(value), scope.type_of(column.name)), column.name
    raise query.error(
        f"ON says which columns of {one.reference} are equal to what the event has, as in {_EXAMPLE}; other conditions "
        "stand in WHERE",
        written,
    )


def _as(value: exp.Expr, type_: str, wanted: str) -> str:
    """A value that is compared with a column of another type: as that type, or NULL, which equals nothing."""
    sql = value.sql(dialect=DuckDB)
    return sql if type_ == wanted or (is_number(type_) and is_number(wanted)) else f"TRY_CAST({sql} AS {wanted})"
