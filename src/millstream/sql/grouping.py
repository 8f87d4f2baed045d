"""GROUP BY: the window, the stream's key, and further groups.

Windows close by the watermark of each stream key, so a group must lie within one key. It does if GROUP BY has the key
itself, or columns that determine it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from millstream.engine.window import Kind
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.scope import Scope
from millstream.sql.text import QueryText
from millstream.sql.window import misspelt, partitioned, window_name, windows_of

_EXAMPLE = "GROUP BY {key}, TumblingWindow(second, 10)"


@dataclass(frozen=True, slots=True)
class Grouping:
    """GROUP BY, taken apart: the windows, and the other expressions, resolved."""

    windows: tuple[Kind, ...]
    keys: tuple[exp.Expr, ...]
    others: tuple[exp.Expr, ...]


def grouping(query: QueryText, scope: Scope, spec: StreamSpec) -> Grouping:
    """Take GROUP BY apart. `QueryError`: there is no window, or a group does not lie within one key."""
    group = query.select.args.get("group")
    written = list(group.expressions) if group is not None else []
    if group is None and not _needs_window(query):
        return Grouping((), (), ())
    windows = [node for node in written if window_name(node)]
    for node in written:
        if meant := misspelt(node):
            raise query.error(f"there is no function {node.name}; did you mean {meant}?", node)
    if not windows:
        example = _EXAMPLE.format(key=spec.key or "_topic")
        raise query.error(f"a query over a stream needs a window: {example}", group or query.select)
    if len(windows) > 1:
        raise query.error(
            "a query has one window; several at once are Windows(Window('a', …), Window('b', …))", windows[1]
        )
    window, parts = partitioned(windows[0])
    kinds = windows_of(query, window)
    for part in parts:
        if not _is_column(scope.resolve(part), spec.key, "_key"):
            raise query.error(
                f"windows are of each key by itself: PARTITION BY takes {spec.key or '_key'}, or may be left out", part
            )
    groups = [_group(query, scope, node) for node in written if not window_name(node)]
    keys = [node for node in groups if _is_column(node, spec.key, "_key")]
    if not keys:
        _check_key(query, scope, spec, groups, group)
    others = {node: None for node in groups if node not in keys}  # each once
    return Grouping(kinds, tuple(keys), tuple(others))


def _needs_window(query: QueryText) -> bool:
    """Whether what is selected is of many events, and not of each by itself."""
    select = query.select
    return select.args.get("having") is not None or any(first_aggregate(node) for node in select.expressions)


def _group(query: QueryText, scope: Scope, node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Literal):
        raise query.error("GROUP BY takes columns, not their numbers; write the column itself", node)
    return scope.resolve(_aliased(query, node))


def _aliased(query: QueryText, node: exp.Expr) -> exp.Expr:
    """What a name of the SELECT list stands for: `SELECT floor(x) AS bucket … GROUP BY bucket`.

    A name that its own expression uses is the column, as in `SELECT lower(state) AS state … GROUP BY state`."""
    if not isinstance(node, exp.Column) or node.table:
        return node
    for selected in query.select.expressions:
        if isinstance(selected, exp.Alias) and selected.alias == node.name:
            names = {column.name for column in selected.this.find_all(exp.Column)}
            aggregated = any(True for _ in selected.this.find_all(exp.AggFunc))
            return node if node.name in names or aggregated else selected.this
    return node


def _is_column(node: exp.Expr, *names: str | None) -> bool:
    return isinstance(node, exp.Column) and node.name in names


def _check_key(
    query: QueryText, scope: Scope, spec: StreamSpec, groups: list[exp.Expr], group: exp.Expr | None
) -> None:
    """Raise `QueryError` unless the groups determine the topic, and it is the key."""
    names = {node.name for node in groups if isinstance(node, exp.Column)}
    if spec.key is None and ("_topic" in names or _determine_topic(scope, names)):
        return
    mine = f"the key of stream {spec.name!r} is {f'{{{spec.key}}}' if spec.key else 'the topic'}"
    if spec.key is not None:
        add = f"add {spec.key}"
    elif (
        len(scope.filters) == 1 and scope.levels and "+" not in spec.topics[0].split("/") and "#" not in spec.topics[0]
    ):
        add = f"add all of {', '.join(scope.levels)}, or _topic"
    else:
        add = "add _topic"
    level = next((name for name in scope.levels if name in names and _in_all(scope, name)), None)
    declare = f"; or declare the stream with key={level!r}" if level else ""
    field = next((name for name in ("topic", "key") if name in names), None)
    meant = f" ({field!r} is a field of the payload; the event's own is _{field})" if field else ""
    raise query.error(
        "GROUP BY must contain the stream's key, because windows close for each key by itself: "
        f"{mine}; {add}{declare}{meant}",
        group,
    )


def _determine_topic(scope: Scope, names: set[str]) -> bool:
    """Whether levels determine the topic: there is one filter, and all its wildcards are named and grouped by."""
    if len(scope.filters) != 1 or not scope.levels:
        return False
    only = scope.filters[0]
    unnamed = len([level for level in only.mqtt.split("/") if level in ("+", "#")]) - len(only.names)
    return not unnamed and names.issuperset(scope.levels)


def _in_all(scope: Scope, name: str) -> bool:
    return all(name in pattern.names for pattern in scope.filters)
