"""From a query's text to its plan.

The text is parsed (`text.py`), checked for what there is not (`limits.py`), taken apart (`parts.py`) and its names
resolved (`scope.py`); the types of payload fields follow from their uses (`demand.py`), and each fragment is bound in
DuckDB (`functions.py`): whatever is wrong is found here, with its line and column, and not while events are processed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from millstream.clock import Micros
from millstream.engine.aggregate import is_json, is_plain, result_type
from millstream.engine.lookup import Lookup
from millstream.engine.plan import EVENT_TIME, IDLE, Aggregate, Apply, Column, Group, WindowPlan
from millstream.engine.window import Count, Session, Window
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import Aggregates, Found, is_aggregate, uses_payload
from millstream.sql.applies import Applied, applied
from millstream.sql.demand import Demand
from millstream.sql.fragments import Fragments, fragment
from millstream.sql.functions import Binder
from millstream.sql.grouping import Grouping, check_substreams
from millstream.sql.join import JoinPlanner, joins_events
from millstream.sql.limits import check_clauses
from millstream.sql.lookbacks import Lifted, noted
from millstream.sql.lookups import Columns, Joined, joined, lookups
from millstream.sql.parts import Parts, check_apart, resolve
from millstream.sql.payload import field_types
from millstream.sql.results import Results, check_columns, over_results, timed_plan
from millstream.sql.scope import WINDOW_END, WINDOW_ID, Scope, source
from millstream.sql.statements import check_single
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
    references: Mapping[str, Columns] | None = None,
    results: Mapping[str, Results] | None = None,
    timed: bool = False,
    grace: Micros = 0,
    early: Micros = 0,
) -> WindowPlan:
    """The plan of a query over one of `streams`, whose results go to the topic `into`. Windows close `grace` of event
    time after their end, and have early results after each `early` of the log's time (0: never).

    `types` gives the payloads' types by stream: an annotation (dataclass, `TypedDict`, msgspec or pydantic model), or
    the DuckDB types of columns by name. `references` are the columns of reference data by name, `results` what is known
    of streams (by the names in the text) that have results of other queries. If it is `timed`, its own results carry
    their time, for others that read them. Raises `QueryError` with the line and column of what is wrong.
    """
    check_single(text)
    query, known = noted(QueryText.parse(text)), references or {}
    with closing(Binder()) as binder:
        common = _Common(name, streams, known, types or {}, results or {}, into, grace, binder)
        if joins_events(query, streams):
            check_clauses(query)
            plan = JoinPlanner(query, streams, common.plan, common.results, binder).plan(name, into, grace)
        else:
            plan = common.plan(query, {})
    if early:
        _check_early(query, plan)
        plan = replace(plan, early=early)
    return timed_plan(plan) if timed else plan


def _check_early(query: QueryText, plan: WindowPlan) -> None:
    """Raise `QueryError` unless a plan may have early results."""
    group = query.select.args.get("group")
    kinds = "tumbling, hopping and session windows"
    if not plan.windows or not all(isinstance(window, Window | Session) for window in plan.windows):
        raise query.error(f"early results are of {kinds}; leave out early", group or query.select)


@dataclass(frozen=True, slots=True)
class _Common:
    """What a query over events of one stream, and both sides of one over pairs, are planned with; see `plan_query`."""

    name: str
    streams: Mapping[str, StreamSpec]
    references: Mapping[str, Columns]
    types: Mapping[str, Any]
    results: Mapping[str, Results]
    into: str
    grace: Micros
    binder: Binder

    def plan(self, query: QueryText, fields: Mapping[str, str]) -> WindowPlan:
        """The plan of a query over events of one stream; `fields` are types of its payload that count first."""
        query, applies = applied(inlined(query))
        check_clauses(query)
        if len(query.times) > 1:
            raise query.error("a query over one stream has one TIMESTAMP BY", list(query.times.values())[1])
        spec, alias = source(query, self.streams)
        its = self.results.get(query.select.args["from_"].this.name)
        query = query if its is None else over_results(query, its)
        declared = field_types(self.types.get(spec.name)) or (its.declared if its is not None else {})
        joins = joined(query, self.streams, self.references, {spec.name, alias or spec.name})
        tables = {join.alias: self.references[join.reference] for join in joins}
        keyed = its.key if its is not None else ()
        scope = Scope(query, spec, alias, {**declared, **fields}, tables, keyed, applies)
        plan = _Planner(query, spec, scope, joins, applies, self.binder).plan(self.name, self.into, self.grace)
        if its is not None and its.timed and not its.whole:
            check_columns(query, scope, its.types)
        return plan


class _Planner:
    """Plans one query."""

    def __init__(
        self,
        query: QueryText,
        spec: StreamSpec,
        scope: Scope,
        joins: Sequence[Joined],
        applies: Sequence[Applied],
        binder: Binder,
    ) -> None:
        self._query = query
        self._joins = joins
        self._applied = [replace(one, argument=scope.resolve(one.argument)) for one in applies]
        self._spec = spec
        self._scope = scope
        self._binder = binder
        self._fragments = Fragments(query, binder)
        self._aggregates = Aggregates(query)
        self._lifted = Lifted(query, scope, spec, self._fragments)

    def plan(self, name: str, into: str, grace: Micros) -> WindowPlan:
        for over in self._query.over.values():
            check_substreams(self._query, self._scope, over)
        parts = resolve(self._query, self._scope, self._spec, self._joins)
        if any(uses_payload(node) for _, node in parts.columns):
            self._scope.attributes["_payload"] = None
        self._note_types(parts)
        parts = parts.changed(self._lifted)
        check_apart(self._query, self._scope, parts.time, self._lifted.nodes, self._applied)
        if not parts.groups.windows:
            return self._plain(parts, name, into)
        if grace and isinstance(parts.groups.windows[0], Count):
            raise self._query.error(
                "CountWindow takes events in the order in which they come, and waits for none; leave out grace",
                self._query.select.args["group"],
            )
        columns = [(column, self._window_level(node, parts.groups), node) for column, node in parts.columns]
        having = self._window_level(parts.having, parts.groups) if parts.having is not None else None
        of_event = self._scope.types() | self._lifted.types()
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
            applies=self._applies(of_event),
            lookups=self._lookups(parts, of_event),
            time=self._time(parts.time, of_event),
            where=self._fragments.condition("WHERE", parts.where, of_event),
            having=self._fragments.condition("HAVING", having, of_window, parts.having),
            grace=grace,
            idle=IDLE + grace,
            lookbacks=tuple(self._lifted.plans),
            keyed=self._scope.keyed,
            sources=0 if parts.groups.within else self._spec.partitions,
        )

    def _plain(self, parts: Parts, name: str, into: str) -> WindowPlan:
        """The plan of a query without windows."""
        if any(Filter.parse(topics).matches(into) for topics in self._spec.topics):
            raise self._query.error(
                f"the stream {self._spec.name!r} captures {into!r} too, where the results go, so that they would be "
                "read again for ever; read a stream that does not, or give the results another topic",
                self._query.select.args["from_"].this,
            )
        if parts.whole:
            self._scope.attributes["_payload"] = None
        of_event = self._scope.types() | self._lifted.types()
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
            applies=self._applies(of_event),
            lookups=self._lookups(parts, of_event),
            time=self._time(parts.time, of_event),
            where=self._fragments.condition("WHERE", parts.where, of_event),
            lookbacks=tuple(self._lifted.plans),
            keyed=self._scope.keyed,
            whole=parts.whole,
        )

    def _applies(self, types: dict[str, str]) -> tuple[Apply, ...]:
        made = []
        for one in self._applied:
            type_ = self._fragments.type_of(one.argument, types, one.argument)
            if type_ != "JSON" and not type_.startswith(("STRUCT", "MAP")) and not type_.endswith("]"):
                message = f"{one.function} takes an array or a record of the payload, and this is a {type_}"
                raise self._query.error(message, one.argument)
            fields = self._scope.row_fields(one.alias)
            made.append(Apply(one.function, fragment(one.argument), one.optional, fields))
        return tuple(made)

    def _lookups(self, parts: Parts, types: dict[str, str]) -> tuple[Lookup, ...]:
        def bind(node: exp.Expr) -> str:
            return self._fragments.type_of(node, types, node)

        return lookups(self._query, self._scope, self._joins, parts.joins, bind)

    def _note_types(self, parts: Parts) -> None:
        demand = Demand(self._query, self._scope, self._binder)
        for one in self._applied:
            demand.visit(one.argument, "JSON")
        if parts.time is not None:
            demand.visit(parts.time, "TIMESTAMP" if isinstance(parts.time, exp.Column | exp.Coalesce) else None)
        for node in (parts.where, parts.having, *(condition for join in parts.joins for condition in join)):
            if node is not None:
                demand.visit(node, "BOOLEAN")
        for node in (*parts.groups.others, *(node for _, node in parts.columns)):
            handed_on = not parts.groups.windows and isinstance(node, exp.Column)
            demand.visit(node, "JSON" if handed_on else None, firm=False)

    def _window_level(self, node: exp.Expr, groups: Grouping) -> exp.Expr:
        """An expression over a window: groups, aggregates and the window's end by their names there."""

        def named(inner: exp.Expr) -> exp.Expr:
            if inner in groups.keys:
                return exp.column("key")
            if inner in groups.others:
                return exp.column(f"g{groups.others.index(inner)}")
            if is_aggregate(inner):
                return exp.column(f"a{self._aggregates.number(inner)}")
            if isinstance(inner, exp.Column):
                if inner.name == WINDOW_ID:
                    return exp.column("window_id")
                if inner.name.startswith("#back"):
                    raise self._query.error(
                        "what an event finds when it looks back stands in WHERE, or inside of an aggregate, as in "
                        "max(v - LAG(v) OVER (…)), where there are windows",
                        inner,
                    )
                if inner.name != WINDOW_END:
                    raise self._query.error(
                        f"{inner.name!r} is neither in GROUP BY nor inside of an aggregate, as in max({inner.name})",
                        inner,
                    )
                return exp.column("window_end")
            return inner

        return node.transform(named)

    def _column(self, name: str, node: exp.Expr, written: exp.Expr, types: dict[str, str]) -> Column:
        type_ = self._fragments.type_of(node, types, written)
        if not is_json(type_):
            message = f"a column of the result is what JSON can say, and {name!r} is a {type_}; write a cast"
            raise self._query.error(message, written)
        return Column(name, fragment(node), type_)

    def _group(self, node: exp.Expr, types: dict[str, str]) -> Group:
        type_ = self._fragments.type_of(node, types, node)
        if not is_plain(type_):
            raise self._query.error(f"GROUP BY takes plain values, and this is a {type_}", node)
        return Group(fragment(node), type_)

    def _aggregate(self, found: Found, types: dict[str, str]) -> Aggregate:
        function, node = found.function, found.node
        arguments = tuple(map(fragment, found.arguments))
        kinds = tuple(self._fragments.type_of(argument, types, node) for argument in found.arguments)
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
        call = fragment(found.call) if found.call is not None else ""
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
        type_ = self._fragments.type_of(node, types, node)
        if type_ != "DATE" and not type_.startswith("TIMESTAMP"):
            raise self._query.error(f"{_TIME_HELP} (this is a {type_})", node)
        return fragment(node)
