"""From a query's text to its plan.

The text is parsed (`text.py`), checked for what there is not (`limits.py`), taken apart (`parts.py`) and its names
resolved (`scope.py`); the types of payload fields follow from their uses (`demand.py`), and each fragment is bound in
DuckDB (`functions.py`): whatever is wrong is found here, with its line and column, and not while events are processed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.clock import Micros
from millstream.engine.aggregate import is_json, is_plain, result_type
from millstream.engine.plan import EVENT_TIME, IDLE, Aggregate, Column, Group, WindowPlan
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import Aggregates, Found, is_aggregate, uses_payload
from millstream.sql.demand import Demand
from millstream.sql.functions import Binder
from millstream.sql.grouping import Grouping
from millstream.sql.limits import check_clauses
from millstream.sql.parts import Parts, resolve
from millstream.sql.payload import field_types
from millstream.sql.scope import WINDOW_END, WINDOW_ID, Scope, source
from millstream.sql.steps import inlined
from millstream.sql.text import QueryText
from millstream.topic import Filter

_TIME_HELP = (
    "TIMESTAMP BY needs a time; write to_timestamp(x::DOUBLE) for seconds since 1970, epoch_ms(x::BIGINT) for "
    "milliseconds, or a field with ISO 8601 text by itself"
)


def plan_query(
    name: str,
    text: str,
    streams: Mapping[str, StreamSpec],
    *,
    into: str,
    types: Mapping[str, Any] | None = None,
    grace: Micros = 0,
) -> WindowPlan:
    """The plan of a query over one of `streams`, whose results go to the topic `into`. Windows close `grace` of event
    time after their end.

    `types` gives the payloads' types by stream: an annotation (dataclass, `TypedDict`, msgspec or pydantic model), or
    the DuckDB types of columns by name. Raises `QueryError` with the line and column of what is wrong.
    """
    query = inlined(QueryText.parse(text))
    check_clauses(query)
    spec, alias = source(query, streams)
    declared = field_types((types or {}).get(spec.name))
    with closing(Binder()) as binder:
        return _Planner(query, spec, Scope(query, spec, alias, declared), binder).plan(name, into, grace)


class _Planner:
    """Plans one query."""

    def __init__(self, query: QueryText, spec: StreamSpec, scope: Scope, binder: Binder) -> None:
        self._query = query
        self._spec = spec
        self._scope = scope
        self._binder = binder
        self._aggregates = Aggregates(query)

    def plan(self, name: str, into: str, grace: Micros) -> WindowPlan:
        parts = resolve(self._query, self._scope, self._spec)
        if any(uses_payload(node) for _, node in parts.columns):
            self._scope.attributes["_payload"] = None
        self._note_types(parts)
        if not parts.groups.windows:
            return self._plain(parts, name, into)
        columns = [(column, self._window_level(node, parts.groups), node) for column, node in parts.columns]
        having = self._window_level(parts.having, parts.groups) if parts.having is not None else None
        of_event = self._scope.types()
        groups = tuple(self._group(node, of_event) for node in parts.groups.others)
        aggregates = tuple(self._aggregate(found, of_event) for found in self._aggregates.found)
        of_window = {"key": "VARCHAR", "window_end": "TIMESTAMP", "window_id": "VARCHAR"}
        of_window |= {f"g{number}": group.type for number, group in enumerate(groups)}
        of_window |= {f"a{number}": aggregate.type for number, aggregate in enumerate(aggregates)}
        return WindowPlan(
            name=name,
            text=self._query.text,
            stream=self._spec.name,
            into=into,
            filters=self._spec.topics,
            key=self._spec.key,
            windows=parts.groups.windows,
            columns=tuple(self._column(*column, of_window) for column in columns),
            aggregates=aggregates,
            fields=self._scope.payload_fields(),
            parameters=tuple(self._scope.parameters),
            attributes=tuple(self._scope.attributes),
            groups=groups,
            time=self._time(parts.time, of_event),
            where=self._condition("WHERE", parts.where, parts.where, of_event),
            having=self._condition("HAVING", having, parts.having, of_window),
            grace=grace,
            idle=IDLE + grace,
        )

    def _plain(self, parts: Parts, name: str, into: str) -> WindowPlan:
        """The plan of a query without windows."""
        if any(Filter.parse(topics).matches(into) for topics in self._spec.topics):
            raise self._query.error(
                f"the stream {self._spec.name!r} captures {into!r} too, where the results go, so that they would be "
                "read again for ever; read a stream that does not, or give the results another topic",
                self._query.select.args["from_"].this,
            )
        if not parts.columns:
            self._scope.attributes["_payload"] = None
        of_event = self._scope.types()
        types = of_event | {EVENT_TIME: "TIMESTAMP"}
        for _, node in parts.columns:
            for column in node.find_all(exp.Column):
                if column.name == WINDOW_ID:
                    raise self._query.error("System.Window().Id is a window's, and this query has none", column)
        return WindowPlan(
            name=name,
            text=self._query.text,
            stream=self._spec.name,
            into=into,
            filters=self._spec.topics,
            key=self._spec.key,
            windows=(),
            columns=tuple(self._column(column, node, node, types) for column, node in parts.columns),
            fields=self._scope.payload_fields(),
            parameters=tuple(self._scope.parameters),
            attributes=tuple(self._scope.attributes),
            time=self._time(parts.time, of_event),
            where=self._condition("WHERE", parts.where, parts.where, of_event),
        )

    def _note_types(self, parts: Parts) -> None:
        demand = Demand(self._query, self._scope, self._binder)
        if parts.time is not None:
            demand.visit(parts.time, "TIMESTAMP" if isinstance(parts.time, exp.Column) else None)
        for node in (parts.where, parts.having):
            if node is not None:
                demand.visit(node, "BOOLEAN")
        for node in (*parts.groups.others, *(node for _, node in parts.columns)):
            handed_on = not parts.groups.windows and isinstance(node, exp.Column)
            demand.visit(node, "JSON" if handed_on else None, firm=False)

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
                if inner.name == WINDOW_ID:
                    return exp.column("window_id")
                if inner.name != WINDOW_END:
                    raise self._query.error(
                        f"{inner.name!r} is neither in GROUP BY nor inside of an aggregate, as in max({inner.name})",
                        inner,
                    )
                return exp.column("window_end")
            return inner

        return node.transform(replace)

    def _column(self, name: str, node: exp.Expr, written: exp.Expr, types: dict[str, str]) -> Column:
        type_ = self._bind(node, types, written)
        if not is_json(type_):
            message = f"a column of the result is what JSON can say, and {name!r} is a {type_}; write a cast"
            raise self._query.error(message, written)
        return Column(name, _sql(node), type_)

    def _group(self, node: exp.Expr, types: dict[str, str]) -> Group:
        type_ = self._bind(node, types, node)
        if not is_plain(type_):
            raise self._query.error(f"GROUP BY takes plain values, and this is a {type_}", node)
        return Group(_sql(node), type_)

    def _aggregate(self, found: Found, types: dict[str, str]) -> Aggregate:
        function, node = found.function, found.node
        arguments = tuple(map(_sql, found.arguments))
        kinds = tuple(self._bind(argument, types, node) for argument in found.arguments)
        if found.call is not None:
            return self._kept(found, arguments, kinds)
        result = result_type(function, kinds)
        if result is None:
            is_sum = function in ("sum", "avg") or function.startswith(("var_", "stddev_"))
            takes = "numbers of at most 64 bits or 18 digits" if is_sum else "plain values"
            wrong = "its argument is a" if len(kinds) == 1 else "its arguments are"
            message = f"{function} takes {takes}, and {wrong} {' and '.join(kinds)}; write a cast"
            raise self._query.error(message, node)
        return Aggregate(function, arguments, kinds, result)

    def _kept(self, found: Found, arguments: tuple[str, ...], kinds: tuple[str, ...]) -> Aggregate:
        """An aggregate over the rows that a window keeps."""
        call = _sql(found.call) if found.call is not None else ""
        for kind in kinds:
            if kind.startswith(("HUGEINT", "UHUGEINT", "BLOB", "BIT", "UNION")):
                raise self._query.error(f"{found.function} cannot keep a {kind}; write a cast", found.node)
        try:
            result = self._binder.type_of_call(call, kinds)
        except ValueError as error:
            raise self._query.error(str(error), found.node) from None
        return Aggregate(found.function, arguments, kinds, result, call)

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
