"""The aggregates in a query: found, checked, and numbered."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.engine.aggregate import SPLITTABLE
from millstream.sql.functions import function_name, functions
from millstream.sql.text import QueryText

_OTHER_NAMES = {"mean": "avg"}


def is_aggregate(node: exp.Expr) -> bool:
    """Whether an expression is the call of an aggregate (with its FILTER, if it has one)."""
    if isinstance(node, exp.AggFunc | exp.Filter | exp.IgnoreNulls | exp.WithinGroup):
        return True
    return isinstance(node, exp.Func) and function_name(node) in functions().aggregates


def first_aggregate(node: exp.Expr) -> exp.Expr | None:
    """The first aggregate within an expression."""
    return next((inner for inner in node.walk() if is_aggregate(inner)), None)


class Aggregates:
    """The aggregates of a query, each once: a function and its resolved argument (None: `count(*)`)."""

    def __init__(self, query: QueryText) -> None:
        self._query = query
        self.found: list[tuple[str, exp.Expr | None, exp.Expr]] = []

    def number(self, node: exp.Expr) -> int:
        """The number of an aggregate; a new one gets the next."""
        function, argument = self._take_apart(node)
        for number, (known, its_argument, _) in enumerate(self.found):
            if known == function and its_argument == argument:
                return number
        self.found.append((function, argument, node))
        return len(self.found) - 1

    def _take_apart(self, node: exp.Expr) -> tuple[str, exp.Expr | None]:
        condition = None
        if isinstance(node, exp.Filter):
            node, condition = node.this, node.expression.this
        function = _OTHER_NAMES.get(function_name(node), function_name(node))
        if function == "count_if":
            function, node, condition = "count", exp.Count(this=exp.Star()), _both(condition, node.this)
        if function not in SPLITTABLE:
            name = function or node.sql(dialect=DuckDB)
            raise self._query.error(
                f"{name} is not supported over windows yet; there are {', '.join(SPLITTABLE)}", node
            )
        arguments = list(node.iter_expressions())
        argument = (
            None if function == "count" and (not arguments or isinstance(arguments[0], exp.Star)) else arguments[0]
        )
        self._check(function, node, arguments, argument)
        return function, argument if condition is None else _where(condition, argument)

    def _check(self, function: str, node: exp.Expr, arguments: list[exp.Expr], argument: exp.Expr | None) -> None:
        if isinstance(argument, exp.Distinct):
            raise self._query.error(f"{function}(DISTINCT …) is not supported yet", node)
        if isinstance(argument, exp.Order):
            raise self._query.error(f"ORDER BY inside of {function} is not supported", node)
        if len(arguments) > 1:
            raise self._query.error(f"{function} takes one argument", node)
        inner = first_aggregate(argument) if argument is not None else None
        if inner is not None:
            raise self._query.error(f"an aggregate inside of {function}", inner)


def _both(first: exp.Expr | None, second: exp.Expr) -> exp.Expr:
    return second if first is None else exp.and_(first.copy(), second.copy())


def _where(condition: exp.Expr, argument: exp.Expr | None) -> exp.Expr:
    """`count(*) FILTER (WHERE c)` is `count(CASE WHEN c THEN 1 END)`, and so with every aggregate that skips NULL."""
    value = exp.Literal.number(1) if argument is None else argument.copy()
    return exp.Case(ifs=[exp.If(this=condition.copy(), true=value)])
