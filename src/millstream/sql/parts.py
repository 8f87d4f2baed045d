"""A query's parts, with their names resolved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.applies import Applied
from millstream.sql.grouping import Grouping, grouping
from millstream.sql.limits import check_functions, check_parts
from millstream.sql.lookups import Joined
from millstream.sql.nodes import outside
from millstream.sql.scope import WINDOW_END, WINDOW_ID, Scope
from millstream.sql.text import QueryText


@dataclass(frozen=True, slots=True)
class Parts:
    """What a query says, clause by clause; `columns` are the selected expressions by name, behind the `whole` payload
    if it begins with `*`; `joins` are the conditions of each JOIN."""

    time: exp.Expr | None
    where: exp.Expr | None
    groups: Grouping
    columns: tuple[tuple[str, exp.Expr], ...]
    having: exp.Expr | None
    joins: tuple[tuple[exp.Expr, ...], ...] = ()
    whole: bool = False

    def changed(self, change: Callable[[exp.Expr], exp.Expr]) -> Parts:
        """The same with expressions changed, but for the time and the key."""
        return Parts(
            self.time,
            change(self.where) if self.where is not None else None,
            replace(self.groups, others=tuple(map(change, self.groups.others))),
            tuple((name, change(node)) for name, node in self.columns),
            change(self.having) if self.having is not None else None,
            self.joins,
            self.whole,
        )


def resolve(query: QueryText, scope: Scope, spec: StreamSpec, joins: Sequence[Joined] = ()) -> Parts:
    """Take a query apart and resolve its names in a scope, where every column that it uses is noted."""
    select = query.select
    where, having = select.args.get("where"), select.args.get("having")
    whole = _is_whole(query)
    selected = select.expressions[1:] if whole else select.expressions
    for node in (
        *selected,
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
        columns=_columns(query, scope, selected),
        having=scope.resolve(_with_aliases(query, having.this)) if having is not None else None,
        joins=tuple(tuple(map(scope.resolve, join.on)) for join in joins),
        whole=whole,
    )
    _check_event_level(query, "TIMESTAMP BY", parts.time)
    _check_event_level(query, "WHERE", parts.where)
    for node in parts.groups.others:
        _check_event_level(query, "GROUP BY", node)
    return parts


def _is_whole(query: QueryText) -> bool:
    """Whether it is `SELECT *`, or `SELECT *, …`, without windows: events as they came."""
    first = query.select.expressions[0] if query.select.expressions else None
    return isinstance(first, exp.Star) and not first.args.get("except_") and query.select.args.get("group") is None


def _columns(query: QueryText, scope: Scope, selected: Sequence[exp.Expr]) -> tuple[tuple[str, exp.Expr], ...]:
    found: dict[str, tuple[str, exp.Expr]] = {}
    for node in selected:
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


def check_apart(
    query: QueryText, scope: Scope, time: exp.Expr | None, looking: Sequence[exp.Expr], applied: Sequence[Applied]
) -> None:
    """Raise `QueryError` if what is of an event as a whole depends on the rows of an APPLY."""
    of_rows = {name for its in scope.applied.values() for name in its}
    for column in time.find_all(exp.Column) if time is not None else ():
        if column.name in of_rows:
            raise query.error("the time is of the whole event: TIMESTAMP BY comes before APPLY", column)
    if applied and looking:
        raise query.error(
            "LAG, LAST and ISFIRST look at whole events, and this query has a row for each element of one; let one "
            "query publish the rows, and another look back over its results",
            looking[0],
        )


def _check_event_level(query: QueryText, clause: str, node: exp.Expr | None) -> None:
    if node is None:
        return
    aggregate = first_aggregate(node)
    if aggregate is not None:
        raise query.error(f"{clause} comes before there are windows; use HAVING for aggregates", aggregate)
    for column in outside(node):
        if not isinstance(column, exp.Column):
            continue
        if column.name == WINDOW_END:
            raise query.error(f"System.Timestamp() is a window's end, and {clause} comes before", column)
        if column.name == WINDOW_ID:
            raise query.error(f"System.Window().Id is a window's, and {clause} comes before", column)
