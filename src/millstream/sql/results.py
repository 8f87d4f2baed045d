"""What comes out of a query, for one that reads it: columns, their types, and which of them are the key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from millstream.engine.fragments import quoted
from millstream.engine.plan import EVENT_TIME, Column, WindowPlan
from millstream.sql.near import nearest
from millstream.sql.scope import Scope
from millstream.sql.text import QueryText

TIME = "$time"
"""The field with the time of a step's result, which is the event time of whatever reads it."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results of queries in one stream. `types` are of columns of which all agree, `key` the columns that say
    which key a result has (none: they do not say), `whole_key` the one that is the key by itself, if there is one. They
    are `timed` if they have `TIME`, and `whole` if they have fields that the query does not name."""

    types: dict[str, str]
    key: frozenset[str]
    timed: bool
    whole: bool
    whole_key: str | None = None

    @property
    def declared(self) -> dict[str, str]:
        """The types that do not depend on how columns are used: not of what was only handed on."""
        return {name: type_ for name, type_ in self.types.items() if type_ != "JSON"}

    @staticmethod
    def of(plans: Sequence[WindowPlan]) -> Results:
        """Those of queries that publish into the same stream."""
        columns = [{column.name: column.type for column in plan.columns} for plan in plans]
        types = {name: type_ for name, type_ in columns[0].items() if all(its.get(name) == type_ for its in columns)}
        keys = {_key(plan) for plan in plans}
        whole = any(plan.whole for plan in plans) or any(its.keys() != types.keys() for its in columns)
        key = keys.pop() if len(keys) == 1 else frozenset[str]()
        is_value = len(key) == 1 and all(plan.key is not None and not plan.regroups for plan in plans)
        return Results(types, key, TIME in types, whole, next(iter(key)) if is_value else None)


def timed_plan(plan: WindowPlan) -> WindowPlan:
    """A plan whose results carry their time: the window's end, or the event's own."""
    time = Column(TIME, "window_end" if plan.windows else EVENT_TIME, "TIMESTAMP")
    return replace(plan, columns=(*plan.columns, time))


def over_results(query: QueryText, results: Results) -> QueryText:
    """A query that reads results: their time is the event's, and `*` are the columns that they have."""
    time, select = query.time, query.select
    if time is None and results.timed:
        time = exp.column(exp.to_identifier(TIME, quoted=True))
    first = select.expressions[0] if select.expressions else None
    if isinstance(first, exp.Star) and results.timed and not results.whole and select.args.get("group") is None:
        names = [name for name in results.types if name != TIME]
        select = select.copy()
        columns = [exp.column(exp.to_identifier(name, quoted=True)) for name in names]
        select.set("expressions", [*columns, *select.expressions[1:]])
    return replace(query, select=select, time=time)


def check_columns(query: QueryText, scope: Scope, columns: Collection[str]) -> None:
    """Raise `QueryError` for a field that a step's results do not have."""
    for uses in scope.fields.values():
        if uses.path[0] not in columns:
            known = [name for name in columns if name != TIME]
            there = nearest(uses.path[0], known) or f"; it has {', '.join(known)}"
            raise query.error(f"the step has no column {uses.path[0]!r}{there}", uses.node)


def _key(plan: WindowPlan) -> frozenset[str]:
    """The columns of a result that say which key it has."""
    names: dict[str, str] = {}
    for column in plan.columns:
        is_group = plan.windows and column.sql[:1] == "g" and column.sql[1:].isdecimal()
        names.setdefault(plan.groups[int(column.sql[1:])].sql if is_group else column.sql, column.name)
    if plan.regroups:
        groups = [group.sql for group in plan.groups]
        return frozenset(names[sql] for sql in groups) if names.keys() >= set(groups) else frozenset()
    if plan.windows and "key" in names:
        return frozenset({names["key"]})
    wanted = [quoted(name) for name in plan.keyed]
    return frozenset(names[sql] for sql in wanted) if wanted and names.keys() >= set(wanted) else frozenset()
