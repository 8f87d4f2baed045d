"""A query's parts, with their names resolved."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.grouping import Grouping, grouping
from millstream.sql.limits import check_functions, check_parts
from millstream.sql.scope import WINDOW_END, WINDOW_ID, Scope
from millstream.sql.text import QueryText


@dataclass(frozen=True, slots=True)
class Parts:
    """What a query says, clause by clause; `columns` are the selected expressions by name."""

    time: exp.Expr | None
    where: exp.Expr | None
    groups: Grouping
    columns: tuple[tuple[str, exp.Expr], ...]
    having: exp.Expr | None


def resolve(query: QueryText, scope: Scope, spec: StreamSpec) -> Parts:
    """Take a query apart and resolve its names in a scope, where every column that it uses is noted."""
    select = query.select
    where, having = select.args.get("where"), select.args.get("having")
    for node in (
        *(() if is_whole_payload(query) else select.expressions),
        where,
        select.args.get("group"),
        having,
        query.time,
    ):
        if node is not None:
            check_parts(query, node)
            check_functions(query, node)
    parts = Parts(
        groups=grouping(query, scope, spec),
        time=scope.resolve(query.time) if query.time is not None else None,
        where=scope.resolve(where.this) if where is not None else None,
        columns=_columns(query, scope) if not is_whole_payload(query) else (),
        having=scope.resolve(_with_aliases(query, having.this)) if having is not None else None,
    )
    _check_event_level(query, "TIMESTAMP BY", parts.time)
    _check_event_level(query, "WHERE", parts.where)
    for node in parts.groups.others:
        _check_event_level(query, "GROUP BY", node)
    return parts


def is_whole_payload(query: QueryText) -> bool:
    """Whether it is `SELECT *` without windows: events as they came."""
    only = query.select.expressions[0] if len(query.select.expressions) == 1 else None
    return isinstance(only, exp.Star) and not only.args.get("except_") and query.select.args.get("group") is None


def _columns(query: QueryText, scope: Scope) -> tuple[tuple[str, exp.Expr], ...]:
    found: dict[str, tuple[str, exp.Expr]] = {}
    for node in query.select.expressions:
        inner = node.this if isinstance(node, exp.Alias) else node
        resolved = scope.resolve(inner)
        is_column = isinstance(resolved, exp.Column) and resolved.name not in (WINDOW_END, WINDOW_ID)
        if not isinstance(node, exp.Alias) and not is_column:
            raise query.error(f"{query.written(inner)} needs a name: write … AS name", node)
        name = node.alias if isinstance(node, exp.Alias) else (node.name or resolved.name.rpartition(".")[2])
        if name.lower() in found:
            raise query.error(f"two columns are called {name!r}; give one another name: … AS name", node)
        found[name.lower()] = (name, resolved)
    return tuple(found.values())


def _with_aliases(query: QueryText, node: exp.Expr) -> exp.Expr:
    """HAVING may use the names of the SELECT list."""
    named = {item.alias: item.this for item in query.select.expressions if isinstance(item, exp.Alias)}

    def replace(inner: exp.Expr) -> exp.Expr:
        is_name = isinstance(inner, exp.Column) and not inner.table and inner.name in named
        return named[inner.name].copy() if is_name and inner.find_ancestor(exp.AggFunc) is None else inner

    return node.transform(replace)


def _check_event_level(query: QueryText, clause: str, node: exp.Expr | None) -> None:
    if node is None:
        return
    aggregate = first_aggregate(node)
    if aggregate is not None:
        raise query.error(f"{clause} comes before there are windows; use HAVING for aggregates", aggregate)
    for column in node.find_all(exp.Column):
        if column.name == WINDOW_END:
            raise query.error(f"System.Timestamp() is a window's end, and {clause} comes before", column)
        if column.name == WINDOW_ID:
            raise query.error(f"System.Window().Id is a window's, and {clause} comes before", column)
