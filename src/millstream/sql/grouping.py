"""GROUP BY: the window, the stream's key, and further groups.

A group lies within one key if GROUP BY has the key itself, or columns that determine it. Then its windows close by the
watermark of the key; any other group is put together from all partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from millstream.engine.window import Count, Kind
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.scope import Scope
from millstream.sql.text import QueryText
from millstream.sql.window import misspelt, partitioned, window_name, windows_of

_EXAMPLE = "GROUP BY {key}, TumblingWindow(second, 10)"


@dataclass(frozen=True, slots=True)
class Grouping:
    """GROUP BY, taken apart: the windows, and the other expressions, resolved; and whether the groups lie within the
    stream's key."""

    windows: tuple[Kind, ...]
    keys: tuple[exp.Expr, ...]
    others: tuple[exp.Expr, ...]
    within: bool = True


def grouping(query: QueryText, scope: Scope, spec: StreamSpec) -> Grouping:
    """Take GROUP BY apart. `QueryError`: there is no window, or it is none."""
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
    groups = [_group(query, scope, node) for node in written if not window_name(node)]
    keys = [node for node in groups if _is_column(node, spec.key, "_key")]
    within = bool(keys) or _determine(scope, spec, groups)
    _check_partition(query, scope, spec, parts, groups, within)
    if not within and isinstance(kinds[0], Count):
        raise query.error(
            "CountWindow counts the events of a key, in the order in which they stand in its partition, and these "
            f"groups come from all partitions; add {spec.key or '_topic'} to GROUP BY",
            windows[0],
        )
    substreams = [column for columns in query.over.values() for column in columns]
    if substreams and not within:
        message = "groups that do not lie within the stream's key have the time of each partition: leave out OVER"
        raise query.error(message, substreams[0])
    others = {node: None for node in groups if node not in keys}  # each once
    return Grouping(kinds, tuple(keys), tuple(others), within)


def _check_partition(
    query: QueryText, scope: Scope, spec: StreamSpec, parts: list[exp.Expr], groups: list[exp.Expr], within: bool
) -> None:
    """Windows are of each key by itself, or of each group; PARTITION BY may say so. `QueryError`: it says another."""
    named = [scope.resolve(part) for part in parts]
    if within:
        for part, node in zip(parts, named, strict=True):
            if not _is_column(node, spec.key, "_key"):
                message = (
                    f"windows are of each key by itself: PARTITION BY takes {spec.key or '_key'}, or may be left out"
                )
                raise query.error(message, part)
    elif parts and set(named) != set(groups):
        its = ", ".join(query.written(node).replace('"', "") for node in groups) or "nothing"
        raise query.error(
            f"windows are of each group by itself: PARTITION BY takes {its}, or may be left out", parts[0]
        )


def check_substreams(query: QueryText, scope: Scope, columns: Sequence[exp.Expr]) -> None:
    """`TIMESTAMP BY … OVER`: every key has a watermark of its own, so it may name the key and nothing else.
    `QueryError`."""
    names = {node.name if isinstance(node, exp.Column) else "" for node in map(scope.resolve, columns)}
    if names and names != {"_key"} and names != set(scope.keyed):
        raise query.error(
            f"each key has a time of its own: OVER takes {', '.join(scope.keyed) or '_key'}, or may be left out",
            columns[0],
        )


def partition(query: QueryText, scope: Scope, spec: StreamSpec, parts: list[exp.Expr]) -> tuple[exp.Expr, ...]:
    """What PARTITION BY of a lookback names beside the stream's key, within which it always is. `QueryError`: it leaves
    the key out."""
    keys = [node for node in parts if _is_column(node, spec.key, "_key")]
    if parts and not keys:
        _check_key(query, scope, spec, parts)
    return tuple({node: None for node in parts if node not in keys})


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


def _determine(scope: Scope, spec: StreamSpec, groups: list[exp.Expr]) -> bool:
    """Whether groups determine the topic, and it is the key."""
    names = {node.name for node in groups if isinstance(node, exp.Column)}
    return spec.key is None and ("_topic" in names or bool(scope.keyed and names.issuperset(scope.keyed)))


def _check_key(query: QueryText, scope: Scope, spec: StreamSpec, parts: list[exp.Expr]) -> None:
    """Raise `QueryError` unless what PARTITION BY names determines the key."""
    if _determine(scope, spec, parts):
        return
    names = {node.name for node in parts if isinstance(node, exp.Column)}
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
    must = "PARTITION BY must contain the stream's key, because the events before are kept for each key by itself"
    raise query.error(f"{must}: {mine}; {add}{declare}{meant}", parts[0])


def _in_all(scope: Scope, name: str) -> bool:
    return all(name in pattern.names for pattern in scope.filters)
