"""JOIN of events with events: `FROM a JOIN b ON a.key = b.key AND DATEDIFF(second, a, b) BETWEEN 0 AND 10`.

Each side becomes a query of its own without windows, which chooses the events and computes the columns that the pairs
need; so a side may be a stream or a step of `WITH`, and whatever holds for plain queries holds for it. The sides are of
one stream, or of two with the same number of partitions and keys that are compared: then equal keys are in partitions
of equal number. Conditions that concern one side alone become its own, where that comes to the same: what it leaves out
is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.clock import Micros
from millstream.engine.aggregate import is_json, is_plain
from millstream.engine.fragments import quoted
from millstream.engine.plan import IDLE, Column, Join, WindowPlan
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.bounds import EXAMPLE, bound_of, conjuncts
from millstream.sql.demand import Demand
from millstream.sql.functions import Binder
from millstream.sql.limits import check_functions, check_parts
from millstream.sql.near import nearest
from millstream.sql.pairs import PairScope
from millstream.sql.results import Results
from millstream.sql.same_key import SideKey, check_partitions, keyed, without_key
from millstream.sql.scope import WINDOW_END
from millstream.sql.text import QueryText

PlanSide = Callable[[QueryText, Mapping[str, str]], WindowPlan]
"""Plans one side, with types of fields of its payload."""


def joins_events(query: QueryText, streams: Mapping[str, object]) -> bool:
    """Whether a query joins events with events."""
    steps = {step.alias for step in getattr(query.select.args.get("with_"), "expressions", ())}
    joined = [join.this for join in query.select.args.get("joins") or ()]
    return any(isinstance(table, exp.Table) and (table.name in streams or table.name in steps) for table in joined)


class JoinPlanner:
    """Plans one query over pairs."""

    def __init__(
        self,
        query: QueryText,
        streams: Mapping[str, StreamSpec],
        plan_side: PlanSide,
        results: Mapping[str, Results],
        binder: Binder,
    ) -> None:
        self._query = query
        self._plan_side = plan_side
        self._binder = binder
        self._join = _only_join(query)
        self._tables = (query.select.args["from_"].this, self._join.this)
        self._aliases = (_alias(query, self._tables[0]), _alias(query, self._tables[1]))
        if self._aliases[0] == self._aliases[1]:
            raise query.error(
                f"both sides are called {self._aliases[0]!r}; give them names: {EXAMPLE}", self._join.this
            )
        steps = {step.alias: step.this for step in getattr(query.select.args.get("with_"), "expressions", ())}
        sources = [_source(query, table, steps, streams) for table in self._tables]
        self._specs = tuple(streams[source.name] for source in sources)
        self._times = self._times_of([query.time_of(source) for source in sources])
        one, other = (
            SideKey(alias, spec, results.get(source.name))
            for alias, spec, source in zip(self._aliases, self._specs, sources, strict=True)
        )
        self._keys = (one, other)
        check_partitions(query, self._join, self._keys)
        self._scope = PairScope(query, self._aliases)

    def plan(self, name: str, into: str, grace: Micros) -> WindowPlan:
        """The plan. `QueryError`."""
        query, scope, optional = self._query, self._scope, self._join.side.upper() == "LEFT"
        where = query.select.args.get("where")
        bound, conditions = bound_of(query, self._join, self._aliases)
        _check_clauses(query)
        on = [scope.resolve(condition) for condition in conditions]
        columns = self._columns()
        wheres = [scope.resolve(one) for one in conjuncts(where.this)] if where is not None else []
        on, of_sides = self._handed_down(on, (0, 1) if not optional else (1,))
        wheres, more = self._handed_down(wheres, (0, 1) if not optional else (0,))
        wanted = [[*first, *second] for first, second in zip(of_sides, more, strict=True)]
        self._note_types(columns, [*on, *wheres], wanted)
        on = self._without_key(on, wanted)
        self._forget_all_but([*on, *wheres, *(node for _, node in columns)])
        declared = [self._declared(self._side(number, wanted[number], {})) for number in (0, 1)]
        left, right = (self._side(number, wanted[number], declared[number]) for number in (0, 1))
        types = scope.types()
        types |= {quoted(column.name): column.type for plan in (left, right) for column in plan.columns}
        for column in (*left.columns, *right.columns):
            if not is_plain(column.type) and column.type != "JSON":
                message = (
                    f"{column.name} is a {column.type}, which a join does not keep; select a value of it in a step"
                )
                raise query.error(message, scope.fields[column.name].node)
        columns_made = tuple(self._column(*column, types) for column in columns)
        return WindowPlan(
            name=name,
            text=query.text,
            stream=left.stream,
            into=into,
            filters=left.filters,
            key=left.key,
            windows=(),
            columns=columns_made,
            fields=(*left.fields, *right.fields),
            lookups=(*left.lookups, *right.lookups),
            join=Join(left, right, bound.low, bound.high, optional, self._condition("ON", on, types)),
            time=left.time,
            where=self._condition("WHERE", wheres, types),
            grace=grace,
            idle=IDLE + grace,
            keyed=keyed(left, right, {column.sql for column in columns_made}, optional),
        )

    def _times_of(self, times: list[exp.Expr | None]) -> tuple[exp.Expr | None, exp.Expr | None]:
        """The TIMESTAMP BY of both sides, which is one where they are of one stream, whose events have one time."""
        one, other = times
        if self._specs[0] != self._specs[1]:
            return one, other
        if one is not None and other is not None and one != other:
            raise self._query.error(
                "both sides are of one stream, whose events have one time; write one expression for both, as in "
                f"TIMESTAMP BY coalesce({self._query.written(one)}, {self._query.written(other)})",
                other,
            )
        common = one if one is not None else other
        return common, common

    def _columns(self) -> list[tuple[str, exp.Expr]]:
        query = self._query
        found: dict[str, tuple[str, exp.Expr]] = {}
        for item in query.select.expressions:
            inner = item.this if isinstance(item, exp.Alias) else item
            check_parts(query, inner)
            check_functions(query, inner)
            if (aggregate := first_aggregate(inner)) is not None:
                raise query.error(_NO_AGGREGATES, aggregate)
            resolved = self._scope.resolve(inner)
            name = item.alias if isinstance(item, exp.Alias) else ""
            if (
                isinstance(inner, exp.Column | exp.Dot)
                and isinstance(resolved, exp.Column)
                and resolved.name != WINDOW_END
            ):
                name = name or resolved.name.rpartition(".")[2]
            if not name:
                raise query.error(f"{query.written(inner)} needs a name: write … AS name", item)
            if name.lower() in found:
                raise query.error(f"two columns are called {name!r}; give one another name: … AS name", item)
            found[name.lower()] = (name, resolved)
        return list(found.values())

    def _handed_down(
        self, conditions: list[exp.Expr], sides: tuple[int, ...]
    ) -> tuple[list[exp.Expr], list[list[exp.Expr]]]:
        """Conditions over pairs, and those that one of these sides can look at by itself."""
        kept: list[exp.Expr] = []
        handed: list[list[exp.Expr]] = [[], []]
        for condition in conditions:
            mine = self._scope.sides_in(condition)
            number = next(iter(mine)) if len(mine) == 1 else None
            (handed[number] if number is not None and number in sides else kept).append(condition)
        return kept, handed

    def _note_types(
        self, columns: list[tuple[str, exp.Expr]], conditions: list[exp.Expr], of_sides: list[list[exp.Expr]]
    ) -> None:
        """Which types the fields of both sides have, by themselves or because of what is done with them."""
        first = [self._side(number, of_sides[number], {}) for number in (0, 1)]
        self._scope.known = {
            column.name: column.type for plan in first for column in plan.columns if column.type != "JSON"
        }
        demand = Demand(self._query, self._scope, self._binder)
        alike = [condition for condition in conditions if self._untyped(condition)]
        for condition in conditions:
            if condition not in alike:
                demand.visit(condition, "BOOLEAN")
        for _, node in columns:
            demand.visit(node, "JSON" if isinstance(node, exp.Column) else None, firm=False)
        for condition in alike:
            both = [self._scope.fields[node.name] for node in (condition.this, condition.expression)]
            wanted = [type_ for uses in both for type_ in (*uses.cast, *uses.firm)]
            for uses in both:
                (uses.firm if wanted else uses.soft)[wanted[0] if wanted else "JSON"] = None

    def _untyped(self, node: exp.Expr) -> bool:
        """Whether a condition says that two fields are equal, of which nothing else is known: as JSON, then."""
        sides = (node.this, node.expression) if isinstance(node, exp.EQ) else ()
        return bool(sides) and all(
            isinstance(one, exp.Column) and not self._scope.known_type(one.name) for one in sides
        )

    def _declared(self, plan: WindowPlan) -> dict[str, str]:
        """The types that fields of a side's payload have because of what is done with them in pairs."""
        fields = {quoted(field.name): ".".join(field.path) for field in plan.fields}
        return {
            fields[column.sql]: self._scope.type_of(column.name)
            for column in plan.columns
            if column.sql in fields and column.type == "JSON"
        }

    def _side(self, number: int, conditions: list[exp.Expr], declared: Mapping[str, str]) -> WindowPlan:
        """The plan of a side: the columns that the pairs need, of the events that it keeps."""
        scope = self._scope
        columns = [exp.alias_(scope.written[name].copy(), name, quoted=True) for name in scope.of_side(number)]
        select = exp.Select(expressions=columns or [exp.alias_(exp.Literal.number(1), "#one", quoted=True)])
        select.set("from_", exp.From(this=self._tables[number].copy()))
        if conditions:
            written = [
                one.transform(lambda node: scope.written[node.name].copy() if isinstance(node, exp.Column) else node)
                for one in conditions
            ]
            select.set("where", exp.Where(this=exp.and_(*written, copy=False)))
        with_ = self._query.select.args.get("with_")
        if with_ is not None:
            select.set("with_", with_.copy())
        return self._plan_side(replace(self._query, select=select, time=self._times[number], times={}), declared)

    def _without_key(self, on: list[exp.Expr], wanted: list[list[exp.Expr]]) -> list[exp.Expr]:
        """The conditions beside that both events have the same key, which there must be."""
        plans = (self._side(0, wanted[0], {}), self._side(1, wanted[1], {}))
        return without_key(self._query, self._join, self._keys, on, self._scope, plans)

    def _forget_all_but(self, nodes: list[exp.Expr]) -> None:
        """Columns that only conditions of one side use, or the key, need not be kept."""
        used = {column.name for node in nodes for column in node.find_all(exp.Column)}
        self._scope.fields = {name: uses for name, uses in self._scope.fields.items() if name in used}

    def _column(self, name: str, node: exp.Expr, types: dict[str, str]) -> Column:
        type_ = self._bind(node, types)
        if not is_json(type_):
            message = f"a column of the result is what JSON can say, and {name!r} is a {type_}; write a cast"
            raise self._query.error(message, node)
        return Column(name, node.sql(dialect=DuckDB), type_)

    def _condition(self, clause: str, nodes: list[exp.Expr], types: dict[str, str]) -> str | None:
        for node in nodes:
            type_ = self._bind(node, types)
            if type_ != "BOOLEAN":
                raise self._query.error(f"{clause} takes a condition, and this is a {type_}", node)
        return exp.and_(*nodes).sql(dialect=DuckDB) if nodes else None

    def _bind(self, node: exp.Expr, types: dict[str, str]) -> str:
        try:
            return self._binder.type_of(node.sql(dialect=DuckDB), types)
        except ValueError as error:
            raise self._query.error(str(error), node) from None


_NO_AGGREGATES = "a JOIN gives pairs of events; aggregate them in a query over its results, which are a stream"


def _only_join(query: QueryText) -> exp.Join:
    join: exp.Join
    join, *others = query.select.args["joins"]
    for lateral in (one.this for one in query.select.args["joins"] if isinstance(one.this, exp.Lateral)):
        raise query.error(
            f"a side of a JOIN has the rows of an APPLY from a step of WITH: put {query.written(lateral.this)} there, "
            "and JOIN the step",
            lateral.this,
        )
    if others:
        raise query.error(
            "one JOIN joins events with events, and no other stands beside it; join reference data in a step of WITH, "
            "and a third side in a query over the results of the first two",
            others[0].this,
        )
    side, kind = join.side.upper(), join.kind.upper()
    if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER") or join.method:
        words = " ".join(filter(None, (join.method, side, kind)))
        raise query.error(f"{words} JOIN is not supported; there are JOIN and LEFT JOIN", join.this)
    return join


def _alias(query: QueryText, table: exp.Expr) -> str:
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or table.db:
        raise query.error("JOIN takes the names of streams or steps", table)
    return table.alias or table.name


def _source(
    query: QueryText, table: exp.Expr, steps: Mapping[str, exp.Expr], streams: Mapping[str, StreamSpec]
) -> exp.Table:
    """The stream that a side reads in the end, where it is written."""
    passed = set()
    while isinstance(table, exp.Table) and table.name in steps and table.name not in passed:
        passed.add(table.name)
        from_ = steps[table.name].args.get("from_")
        if from_ is None:
            break
        table = from_.this
    if not isinstance(table, exp.Table) or table.name not in streams:
        known = sorted({*streams, *steps})
        name = table.name if isinstance(table, exp.Table) else query.written(table)
        there = nearest(name, known) or f"; there are {', '.join(known)}"
        raise query.error(f"there is no stream {name!r}{there}", table)
    return table


def _check_clauses(query: QueryText) -> None:
    for clause in ("group", "having"):
        node = query.select.args.get(clause)
        if node is not None:
            raise query.error(_NO_AGGREGATES, node)
