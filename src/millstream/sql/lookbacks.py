"""`LAG`, `LAST` and `ISFIRST`: what an event finds when it looks back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from millstream.clock import Micros
from millstream.engine.aggregate import is_plain
from millstream.engine.plan import EVENT_TIME, Lookback
from millstream.engine.window import duration
from millstream.log.contract import StreamSpec
from millstream.sql.aggregates import first_aggregate
from millstream.sql.fragments import Fragments, fragment
from millstream.sql.grouping import partition
from millstream.sql.near import nearest
from millstream.sql.nodes import LookbackNode
from millstream.sql.scope import Scope
from millstream.sql.text import QueryText
from millstream.sql.window import UNITS

_EXAMPLES = {
    "LAG": "LAG(celsius) OVER (LIMIT DURATION(hour, 1))",
    "LAST": "LAST(celsius) OVER (LIMIT DURATION(hour, 1) WHEN celsius > 80)",
    "ISFIRST": "ISFIRST(minute, 10) OVER (PARTITION BY device)",
}
_LONGEST: Micros = 366 * UNITS["day"]
_FURTHEST = 1000  # events back: so many are kept of each key
_AS_TEXT = ("JSON", "UUID")  # types of which Arrow has none


def noted(query: QueryText) -> QueryText:
    """The query with a `LookbackNode` for each `LAG`, `LAST` and `ISFIRST`. `QueryError`: one is said wrongly."""

    def note(node: exp.Expr) -> exp.Expr:
        is_over = isinstance(node, exp.Window)
        function = _function(node.this if is_over else node)
        if function is None or (function == "LAST" and not is_over):  # that is the aggregate `last`
            return node
        made = _made(query, function, node.this if is_over else node, node)
        for inner in list(made.iter_expressions()):
            inner.replace(inner.transform(note))
        return made

    looking = next((inner for inner in query.time.walk() if _function(inner)), None) if query.time is not None else None
    if looking is not None:
        raise query.error("the time of an event does not depend on others: TIMESTAMP BY cannot look back", looking)
    select = query.select.transform(note)
    assert isinstance(select, exp.Select)
    return replace(query, select=select)


def _function(node: exp.Expr) -> str | None:
    if isinstance(node, exp.Lag | exp.Last):
        return "LAG" if isinstance(node, exp.Lag) else "LAST"
    is_first = isinstance(node, exp.Anonymous) and node.name.lower() == "isfirst"
    return "ISFIRST" if is_first else None


def _made(query: QueryText, function: str, call: exp.Expr, node: exp.Expr) -> LookbackNode:
    example = _EXAMPLES[function]
    order = node.args.get("order") if isinstance(node, exp.Window) else None
    said = [by.this for by in order.expressions] if order is not None else []
    is_limited = bool(said) and isinstance(said[0], exp.Anonymous) and said[0].name.lower() == "duration"
    limit, when = (said[0], said[1:]) if is_limited else (None, said)
    if function == "ISFIRST":
        unit, count = ([*call.expressions, None, None])[:2]
        argument, default, offset = None, None, 1
        if limit is not None or len(call.expressions) != 2:
            raise query.error(f"ISFIRST takes a unit and a number, and has no LIMIT: {example}", call)
    else:
        if limit is None or len(limit.expressions) != 2:
            raise query.error(f"{function} looks back for so long as LIMIT DURATION(unit, n) says: {example}", call)
        unit, count = limit.expressions
        argument, default = call.this, call.args.get("default" if function == "LAG" else "expression")
        offset = _offset(query, call, example) if function == "LAG" else 0
    if len(when) > 1 or (isinstance(node, exp.Window) and node.args.get("spec")):
        raise query.error(f"OVER takes PARTITION BY, LIMIT DURATION(unit, n) and WHEN: {example}", call)
    reach = _reach(query, unit, count, call, function)
    if isinstance(argument, exp.Star):  # the event as it came
        argument = exp.cast(exp.column("_payload"), "JSON", dialect="duckdb")
    for inner in filter(None, (default, *when)):
        if isinstance(inner, exp.Star):
            raise query.error(f"{function} takes a column or an expression, as in {example}", call)
    return LookbackNode(
        this=argument,
        default=default,
        partition_by=list(node.args.get("partition_by") or ()) if isinstance(node, exp.Window) else [],
        when=when[0] if when else None,
        function=function,
        offset=offset,
        reach=reach,
        written=query.written(call),
    )


def _offset(query: QueryText, call: exp.Expr, example: str) -> int:
    node = call.args.get("offset")
    if node is None:
        return 1
    if not isinstance(node, exp.Literal) or node.is_string or not node.name.isdigit():
        raise query.error(f"the offset of LAG is a whole number, as in {example.replace(')', ', 2)', 1)}", call)
    if int(node.name) > _FURTHEST:
        raise query.error(f"LAG looks back at most {_FURTHEST} events", call)
    return int(node.name)


def _reach(query: QueryText, unit: exp.Expr, count: exp.Expr, call: exp.Expr, function: str) -> Micros:
    micros = UNITS.get(unit.name.lower())
    if micros is None:
        near = nearest(unit.name.lower(), list(UNITS)) or "; there are millisecond, second, minute, hour and day"
        raise query.error(f"{unit.name!r} is no unit of time{near}", unit)
    is_count = isinstance(count, exp.Literal) and not count.is_string and count.name.isdigit()
    reach = int(count.name) * micros if is_count else 0
    if reach < 1:
        what = "the interval of ISFIRST" if function == "ISFIRST" else "the DURATION"
        raise query.error(f"{what} is a whole number from 1, as in {_EXAMPLES[function]}", call)
    if reach > _LONGEST:
        raise query.error(f"{function} looks back at most 366 days", call)
    return reach


def restrict(node: exp.Expr, condition: exp.Expr) -> None:
    """Let lookbacks find only events for which a condition holds, too: that of the step which the SELECT that has them
    reads."""
    for inner in node.find_all(LookbackNode):
        when = inner.args.get("when")
        inner.set("when", condition.copy() if when is None else exp.and_(when, condition.copy()))


class Lifted:
    """The lookbacks of a query, each once, and what stands in their place."""

    def __init__(self, query: QueryText, scope: Scope, spec: StreamSpec, fragments: Fragments) -> None:
        self._query = query
        self._scope = scope
        self._spec = spec
        self._fragments = fragments
        self.nodes: list[LookbackNode] = []
        self.plans: list[Lookback] = []

    def __call__(self, node: exp.Expr) -> exp.Expr:
        """A copy of an expression, with columns for its lookbacks."""
        return node.transform(self._replace)

    def types(self) -> dict[str, str]:
        """The columns that stand for them, quoted, with their types."""
        types = {f'"#back{each.number}"': each.type for each in self.plans}
        return types | {f'"#known{each.number}"': "BOOLEAN" for each in self.plans}

    def _replace(self, node: exp.Expr) -> exp.Expr:
        if not isinstance(node, LookbackNode):
            return node
        number = self.nodes.index(node) if node in self.nodes else self._add(node)
        found = _column(f"#back{number}", node)
        if self.plans[number].type in _AS_TEXT:
            found = exp.cast(found, self.plans[number].type, dialect="duckdb")
        default = node.args.get("default")
        if default is None:
            return found
        return exp.Case(ifs=[exp.If(this=_column(f"#known{number}", node), true=found)], default=self(default))

    def _add(self, node: LookbackNode) -> int:
        argument, when = node.args.get("this"), node.args.get("when")
        first = next(filter(None, (first_aggregate(inner) for inner in node.iter_expressions())), None)
        if first is not None:
            raise self._query.error(
                f"{node.args['function']} looks back to events, which come before there are windows; an "
                "aggregate is of a window",
                first,
            )
        by = partition(self._query, self._scope, self._spec, node.args.get("partition_by") or [])
        lifted = [self(inner) if inner is not None else None for inner in (argument, when, *by)]
        types = self._scope.types() | self.types() | {EVENT_TIME: "TIMESTAMP"}
        uses = {column.name for each in filter(None, lifted) for column in each.find_all(exp.Column)}
        levels = [each.level for each in self.plans if f"#back{each.number}" in uses]
        type_, text = "BIGINT", None
        if argument is not None and lifted[0] is not None:
            type_, text = self._argument(node, lifted[0], types)
        for inner in by:
            kind = self._fragments.type_of(self(inner), types, inner)
            if not is_plain(kind) and kind != "JSON":
                raise self._query.error(f"PARTITION BY takes plain values, and this is a {kind}", inner)
        condition = self._fragments.condition("WHEN", lifted[1], types, when)
        plan = Lookback(
            number=len(self.plans),
            function=node.args["function"],
            argument=text,
            type=type_,
            offset=node.args["offset"],
            reach=node.args["reach"],
            by=tuple(fragment(inner) for inner in lifted[2:] if inner is not None),
            when=condition,
            level=max(levels, default=-1) + 1,
            text=_text(node, by),
        )
        self.nodes.append(node)
        self.plans.append(plan)
        return plan.number

    def _argument(self, node: LookbackNode, lifted: exp.Expr, types: dict[str, str]) -> tuple[str, str]:
        """The type of what is found, and the fragment that is kept of it."""
        type_ = self._fragments.type_of(lifted, types, node)
        if type_.startswith(("HUGEINT", "UHUGEINT", "BIGNUM", "BLOB", "BIT", "UNION", "ENUM")):
            raise self._query.error(f"{node.args['function']} cannot keep a {type_}; write a cast", node)
        text = fragment(lifted)
        return type_, f"({text})::VARCHAR" if type_ in _AS_TEXT else text


def _text(node: LookbackNode, by: Sequence[exp.Expr]) -> str:
    """A lookback as a person would write it, where it is the key's own that are looked at."""
    reach = "" if node.args["function"] == "ISFIRST" else f" within {duration(node.args['reach'])}"
    others = "".join(f", {fragment(each)}" for each in by)
    when = node.args.get("when")
    return f"{node.args['written']} of the key{others}{reach}" + (f" when {fragment(when)}" if when is not None else "")


def _column(name: str, node: exp.Expr) -> exp.Expr:
    column = exp.column(exp.to_identifier(name, quoted=True))
    starts = [inner.meta["start"] for inner in node.walk() if "start" in inner.meta]
    column.meta.update(start=min(starts, default=0))
    return column
