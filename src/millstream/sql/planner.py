"""From a query's text to its plan.

The text is parsed (`text.py`), checked for what there is not (`limits.py`), its names are resolved (`scope.py`), the
types of payload fields follow from their uses (`demand.py`), and each fragment is bound in DuckDB (`functions.py`):
whatever is wrong is found here, with its line and column, and not while events are processed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.engine.aggregate import result_type
from millstream.engine.plan import Aggregate, Column, Field, Group, TumblingPlan
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import Aggregates, first_aggregate, is_aggregate
from millstream.sql.demand import Demand, function_name
from millstream.sql.functions import Binder, functions
from millstream.sql.grouping import Grouping, grouping
from millstream.sql.limits import check_clauses, check_parts
from millstream.sql.payload import field_types
from millstream.sql.scope import WINDOW_END, Scope, source
from millstream.sql.text import QueryText

_TIME_HELP = (
    "TIMESTAMP BY needs a time; write to_timestamp(x::DOUBLE) for seconds since 1970, epoch_ms(x::BIGINT) for "
    "milliseconds, or a field with ISO 8601 text by itself"
)


def plan_query(
    name: str, text: str, streams: Mapping[str, StreamSpec], *, into: str, types: Mapping[str, Any] | None = None
) -> TumblingPlan:
    """The plan of a query over one of `streams`, whose results go to the topic `into`.

    `types` gives the payloads' types by stream: an annotation (dataclass, `TypedDict`, msgspec or pydantic model), or
    the DuckDB types of columns by name. Raises `QueryError` with the line and column of what is wrong.
    """
    query = QueryText.parse(text)
    check_clauses(query)
    spec, alias = source(query, streams)
    declared = field_types((types or {}).get(spec.name))
    with closing(Binder()) as binder:
        return _Planner(query, spec, Scope(query, spec, alias, declared), binder).plan(name, into)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A query's parts, with their names resolved."""

    time: exp.Expr | None
    where: exp.Expr | None
    groups: Grouping
    columns: list[tuple[str, exp.Expr]]
    having: exp.Expr | None


class _Planner:
    """Plans one query."""

    def __init__(self, query: QueryText, spec: StreamSpec, scope: Scope, binder: Binder) -> None:
        self._query = query
        self._spec = spec
        self._scope = scope
        self._binder = binder
        self._aggregates = Aggregates(query)

    def plan(self, name: str, into: str) -> TumblingPlan:
        parts = self._resolve()
        self._note_types(parts)
        window_level = [(column, self._window_level(node, parts.groups)) for column, node in parts.columns]
        having = self._window_level(parts.having, parts.groups) if parts.having is not None else None
        types = self._scope.types()
        groups = tuple(self._group(node, types) for node in parts.groups.others)
        aggregates = tuple(self._aggregate(*found, types) for found in self._aggregates.found)
        time = self._time(parts.time, types)
        where = self._condition("WHERE", parts.where, parts.where, types)
        of_window = {"key": "VARCHAR", "window_end": "TIMESTAMP"}
        of_window |= {f"g{number}": group.type for number, group in enumerate(groups)}
        of_window |= {f"a{number}": aggregate.type for number, aggregate in enumerate(aggregates)}
        columns = tuple(
            Column(column, _sql(node), self._bind(node, of_window, written))
            for (column, node), (_, written) in zip(window_level, parts.columns, strict=True)
        )
        scope = self._scope
        return TumblingPlan(
            name=name,
            text=self._query.text,
            stream=self._spec.name,
            into=into,
            filters=self._spec.topics,
            key=self._spec.key,
            size=parts.groups.size,
            columns=columns,
            aggregates=aggregates,
            fields=tuple(Field(field, uses.path, scope.type_of(field)) for field, uses in scope.fields.items()),
            parameters=tuple(scope.parameters),
            attributes=tuple(scope.attributes),
            groups=groups,
            time=time,
            where=where,
            having=self._condition("HAVING", having, parts.having, of_window),
        )

    def _resolve(self) -> _Parts:
        """The parts with their names resolved; only columns that the engine needs enter the scope."""
        query, scope = self._query, self._scope
        select = query.select
        for node in (
            *select.expressions,
            *(select.args.get(clause) for clause in ("where", "group", "having")),
            query.time,
        ):
            if node is not None:
                check_parts(query, node)
                self._check_functions(node)
        groups = grouping(query, scope, self._spec)
        where = select.args.get("where")
        having = select.args.get("having")
        parts = _Parts(
            time=scope.resolve(query.time) if query.time is not None else None,
            where=scope.resolve(where.this) if where is not None else None,
            groups=groups,
            columns=self._columns(select.expressions),
            having=scope.resolve(self._with_aliases(having.this)) if having is not None else None,
        )
        self._check_event_level("TIMESTAMP BY", parts.time)
        self._check_event_level("WHERE", parts.where)
        for node in groups.others:
            self._check_event_level("GROUP BY", node)
        return parts

    def _columns(self, expressions: list[exp.Expr]) -> list[tuple[str, exp.Expr]]:
        """The selected expressions, resolved, by their names."""
        found: list[tuple[str, exp.Expr]] = []
        for node in expressions:
            inner = node.this if isinstance(node, exp.Alias) else node
            resolved = self._scope.resolve(inner)
            is_column = isinstance(resolved, exp.Column) and resolved.name != WINDOW_END
            if not isinstance(node, exp.Alias) and not is_column:
                raise self._query.error(f"{self._query.written(inner)} needs a name: write … AS name", node)
            name = node.alias if isinstance(node, exp.Alias) else (node.name or resolved.name.rpartition(".")[2])
            if name.lower() in (known.lower() for known, _ in found):
                raise self._query.error(f"two columns are called {name!r}; give one another name: … AS name", node)
            found.append((name, resolved))
        return found

    def _with_aliases(self, node: exp.Expr) -> exp.Expr:
        """HAVING may use the names of the SELECT list."""
        named = {item.alias: item.this for item in self._query.select.expressions if isinstance(item, exp.Alias)}

        def replace(inner: exp.Expr) -> exp.Expr:
            is_name = isinstance(inner, exp.Column) and not inner.table and inner.name in named
            return named[inner.name].copy() if is_name and inner.find_ancestor(exp.AggFunc) is None else inner

        return node.transform(replace)

    def _check_functions(self, node: exp.Expr) -> None:
        for inner in node.walk():
            name = function_name(inner) if isinstance(inner, exp.Func) else ""
            name = name or (inner.sql(dialect=DuckDB).lower() if isinstance(inner, exp.Func) else "")
            if name in functions().unsettled or name.startswith(("current_", "local")):
                raise self._query.error(
                    f"{name} does not depend on the events, and would give another result when they are processed "
                    "again; the time of an event is _time, the end of its window System.Timestamp()",
                    inner,
                )

    def _check_event_level(self, clause: str, node: exp.Expr | None) -> None:
        if node is None:
            return
        aggregate = first_aggregate(node)
        if aggregate is not None:
            raise self._query.error(f"{clause} comes before there are windows; use HAVING for aggregates", aggregate)
        for column in node.find_all(exp.Column):
            if column.name == WINDOW_END:
                raise self._query.error(f"System.Timestamp() is a window's end, and {clause} comes before", column)

    def _note_types(self, parts: _Parts) -> None:
        demand = Demand(self._query, self._scope, self._binder)
        if parts.time is not None:
            demand.visit(parts.time, "TIMESTAMP" if isinstance(parts.time, exp.Column) else None)
        for node in (parts.where, parts.having):
            if node is not None:
                demand.visit(node, "BOOLEAN")
        for node in (*parts.groups.others, *(node for _, node in parts.columns)):
            demand.visit(node)

    def _window_level(self, node: exp.Expr, groups: Grouping) -> exp.Expr:
        """An expression over a window: groups, aggregates and the window's end by their names there."""

        def replace(inner: exp.Expr) -> exp.Expr:
            if inner in groups.keys:
                return exp.column("key")
            if inner in groups.others:
                return exp.column(f"g{groups.others.index(inner)}")
            if is_aggregate(inner):
                return exp.column(f"a{self._aggregates.number(inner)}")
            if isinstance(inner, exp.Column):
                if inner.name != WINDOW_END:
                    raise self._query.error(
                        f"{inner.name!r} is neither in GROUP BY nor inside of an aggregate, as in max({inner.name})",
                        inner,
                    )
                return exp.column("window_end")
            return inner

        return node.transform(replace)

    def _group(self, node: exp.Expr, types: dict[str, str]) -> Group:
        type_ = self._bind(node, types, node)
        if result_type("min", [type_]) is None:
            raise self._query.error(f"GROUP BY takes plain values, and this is a {type_}", node)
        return Group(_sql(node), type_)

    def _aggregate(self, function: str, argument: exp.Expr | None, node: exp.Expr, types: dict[str, str]) -> Aggregate:
        if argument is None:
            return Aggregate(function, (), (), "BIGINT")
        type_ = self._bind(argument, types, node)
        result = result_type(function, [type_])
        if result is None:
            takes = "numbers of at most 64 bits or 18 digits" if function in ("sum", "avg") else "plain values"
            raise self._query.error(f"{function} takes {takes}, and its argument is a {type_}; write a cast", node)
        return Aggregate(function, (_sql(argument),), (type_,), result)

    def _time(self, node: exp.Expr | None, types: dict[str, str]) -> str | None:
        if node is None:
            return None
        type_ = self._bind(node, types, node)
        if type_ != "DATE" and not type_.startswith("TIMESTAMP"):
            raise self._query.error(f"{_TIME_HELP} (this is a {type_})", node)
        return _sql(node)

    def _condition(
        self, clause: str, node: exp.Expr | None, written: exp.Expr | None, types: dict[str, str]
    ) -> str | None:
        if node is None or written is None:
            return None
        type_ = self._bind(node, types, written)
        if type_ != "BOOLEAN":
            raise self._query.error(f"{clause} takes a condition, and this is a {type_}", written)
        return _sql(node)

    def _bind(self, node: exp.Expr, types: dict[str, str], written: exp.Expr) -> str:
        try:
            return self._binder.type_of(_sql(node), types)
        except ValueError as error:
            place = self._culprit(node, types)
            raise self._query.error(str(error), place if "start" in place.meta else written) from None

    def _culprit(self, node: exp.Expr, types: dict[str, str]) -> exp.Expr:
        """The innermost call in a fragment that does not bind by itself either."""
        for inner in reversed(list(node.bfs())):
            if isinstance(inner, exp.Func) and not isinstance(inner, exp.Binary):
                try:
                    self._binder.type_of(_sql(inner), types)
                except ValueError:
                    return inner
        return node


def _sql(node: exp.Expr) -> str:
    return node.sql(dialect=DuckDB)
