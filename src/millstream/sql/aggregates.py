"""The aggregates in a query: found, checked, and numbered."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp, parse_one
from sqlglot.dialects.duckdb import DuckDB

from millstream.engine.aggregate import SPLITTABLE
from millstream.engine.plan import ORDERED
from millstream.sql.functions import function_name, functions
from millstream.sql.nodes import LookbackNode, outside
from millstream.sql.text import QueryText

_OTHER_NAMES = {
    "mean": "avg",
    "variance": "var_samp",
    "var": "var_samp",
    "varp": "var_pop",
    "stddev": "stddev_samp",
    "stdevp": "stddev_pop",
    "max_by": "arg_max",
    "argmax": "arg_max",
    "min_by": "arg_min",
    "argmin": "arg_min",
}
"""DuckDB's other names for aggregates, and those of T-SQL."""

_OWN = {"collect", "var", "varp", "stdevp"}  # which DuckDB has not

_TOPS = {"topone": "TopOne() OVER (ORDER BY x DESC)", "collecttop": "CollectTop(3) OVER (ORDER BY x DESC)"}

_FRAMES = (exp.Filter, exp.IgnoreNulls, exp.WithinGroup, exp.Distinct, exp.Order, exp.Ordered, exp.Where)


def is_aggregate(node: exp.Expr) -> bool:
    """Whether an expression is the call of an aggregate (with its FILTER, if it has one)."""
    if isinstance(node, LookbackNode):
        return False
    if isinstance(node, exp.AggFunc | exp.Filter | exp.IgnoreNulls | exp.WithinGroup) or is_top(node):
        return True
    return isinstance(node, exp.Func) and (function_name(node) in functions().aggregates or function_name(node) in _OWN)


def is_top(node: exp.Expr | None) -> bool:
    """Whether an expression is `TopOne() OVER (ORDER BY …)`, or `CollectTop(n)`."""
    return isinstance(node, exp.Window) and isinstance(node.this, exp.Anonymous) and node.this.name.lower() in _TOPS


def uses_payload(node: exp.Expr) -> bool:
    """Whether an expression has an aggregate of whole payloads: `TopOne`, `CollectTop`, or `COLLECT()`."""
    return any(
        is_top(inner)
        or (isinstance(inner, exp.Anonymous) and inner.name.lower() == "collect" and not inner.expressions)
        for inner in node.walk()
    )


def first_aggregate(node: exp.Expr) -> exp.Expr | None:
    """The first aggregate within an expression, but for what stands inside of lookbacks."""
    return next((inner for inner in outside(node) if is_aggregate(inner)), None)


@dataclass(frozen=True, slots=True)
class Found:
    """An aggregate: its function and resolved arguments (none: `count(*)`), and how it stands in the query. One that
    does not split has the `call`, in which `e."#0"` … stand for its arguments."""

    function: str
    arguments: tuple[exp.Expr, ...]
    call: exp.Expr | None
    node: exp.Expr


class Aggregates:
    """The aggregates of a query, each once."""

    def __init__(self, query: QueryText) -> None:
        self._query = query
        self.found: list[Found] = []

    def number(self, node: exp.Expr) -> int:
        """The number of an aggregate; a new one gets the next."""
        new = self._take_apart(node)
        for number, known in enumerate(self.found):
            if (known.function, known.arguments, known.call) == (new.function, new.arguments, new.call):
                return number
        self.found.append(new)
        return len(self.found) - 1

    def _take_apart(self, whole: exp.Expr) -> Found:
        node, condition = whole, None
        if isinstance(node, exp.Filter):
            node, condition = node.this, node.expression.this
        if is_top(node):
            return self._top(node, condition, whole)
        function = _OTHER_NAMES.get(function_name(node), function_name(node))
        if function == "count_if":
            function, node, condition = "count", exp.Count(this=exp.Star()), _both(condition, node.this)
        is_framed = isinstance(node, exp.IgnoreNulls | exp.WithinGroup)
        arguments = list((node.this if is_framed else node).iter_expressions())
        self._check(function, arguments)
        is_framed = is_framed or any(isinstance(argument, exp.Distinct | exp.Order) for argument in arguments)
        if function not in SPLITTABLE or is_framed or (function in ORDERED[2:] and len(arguments) > 2):
            return self._kept(function, whole)
        if len(arguments) > (2 if function in ORDERED[2:] else 1):
            raise self._query.error(f"{function} takes one argument", node)
        if function == "count" and (not arguments or isinstance(arguments[0], exp.Star)):
            arguments = []
        if condition is not None:
            arguments = [_where(condition, argument) for argument in arguments or [exp.Literal.number(1)]]
            if function in ("first", "last"):
                return self._kept(function, whole)
        return Found(function, tuple(arguments), None, whole)

    def _check(self, function: str, arguments: list[exp.Expr]) -> None:
        for argument in arguments:
            inner = first_aggregate(argument)
            if inner is not None:
                raise self._query.error(f"an aggregate inside of {function}", inner)

    def _top(self, node: exp.Expr, condition: exp.Expr | None, whole: exp.Expr) -> Found:
        """The event that comes first in an order, or the first ones: their payloads."""
        name = str(node.this.this)
        order, given = node.args.get("order"), list(node.this.expressions)
        ordered = list(order.expressions) if order is not None else []
        directions = {bool(by.args.get("desc")) for by in ordered}
        count = [one for one in given if isinstance(one, exp.Literal) and one.name.isdigit() and int(one.name) > 0]
        is_one = name.lower() == "topone"
        is_wrong = len(given) != (0 if is_one else 1) or len(given) > len(count) or node.args.get("partition_by")
        if len(directions) != 1 or is_wrong:
            example = _TOPS[name.lower()]
            raise self._query.error(f"{name} is written {example}, in one direction: all DESC, or all ASC", whole)
        keys = [by.this if condition is None else _where(condition, by.this) for by in ordered]
        payload = exp.cast(exp.column(exp.to_identifier("_payload", quoted=True)), "JSON", dialect="duckdb")
        if is_one:
            return Found("arg_max" if directions == {True} else "arg_min", (payload, *keys), None, whole)
        call = parse_one(_first_text(len(keys), int(count[0].name), directions == {True}), dialect=DuckDB)
        return Found("collecttop", (payload, *keys), call, whole)

    def _kept(self, function: str, whole: exp.Expr) -> Found:
        """An aggregate over a window's rows: what its arguments have of an event becomes a column of theirs."""
        arguments: list[exp.Expr] = []

        def lift(node: exp.Expr) -> None:
            for inner in list(node.iter_expressions()):
                if isinstance(inner, _FRAMES) or is_aggregate(inner):
                    lift(inner)
                elif inner.find(exp.Column) is not None:
                    if inner not in arguments:
                        arguments.append(inner.copy())
                    name = exp.to_identifier(f"#{arguments.index(inner)}", quoted=True)
                    inner.replace(exp.column(name, table="e"))

        call = whole.copy()
        if function == "collect":
            given = list(call.iter_expressions())
            payload = exp.cast(exp.column(exp.to_identifier("_payload", quoted=True)), "JSON", dialect="duckdb")
            call = exp.Anonymous(this="list", expressions=given or [payload])
        lift(call)
        return Found(function, tuple(arguments), call, whole)


def _first_text(keys: int, count: int, descending: bool) -> str:
    """The first payloads `"#0"` in the order of keys `"#1"`, …, and then of the events, with their ranks."""
    names = [f'e."#{number}"' for number in range(1, keys + 1)]
    there = " AND ".join(f"{name} IS NOT NULL" for name in names)
    number = f"count(*) FILTER (WHERE {there})"
    place = f"range(0, -{number}, -1)" if descending else f"range(0, {number})"
    lists = ", ".join([*(f"list({n}) FILTER (WHERE {there})" for n in names), place])
    rows = f'list_zip({lists}, list(e."#0") FILTER (WHERE {there}))'
    ordered = f"list_reverse_sort({rows})" if descending else f"list_sort({rows})"
    return f"list_transform({ordered}[1:{count}], lambda it, n: json_object('rank', n, 'value', it[{keys + 2}]))"


def _both(first: exp.Expr | None, second: exp.Expr) -> exp.Expr:
    return second if first is None else exp.and_(first.copy(), second.copy())


def _where(condition: exp.Expr, argument: exp.Expr) -> exp.Expr:
    """`count(*) FILTER (WHERE c)` is `count(CASE WHEN c THEN 1 END)`, and so with every aggregate that skips NULL."""
    return exp.Case(ifs=[exp.If(this=condition.copy(), true=argument.copy())])
