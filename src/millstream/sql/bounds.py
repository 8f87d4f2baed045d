"""The bound of time of a JOIN: `DATEDIFF(second, a, b) BETWEEN 0 AND 10` among the conditions of ON."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from millstream.clock import Micros
from millstream.sql.limits import check_functions, check_parts
from millstream.sql.text import QueryText
from millstream.sql.window import UNITS

EXAMPLE = "FROM a JOIN b ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 0 AND 10"
_LONGEST: Micros = 366 * UNITS["day"]


@dataclass(frozen=True, slots=True)
class Bound:
    """How much later than the left event the right one may be."""

    low: Micros
    high: Micros


def bound_of(query: QueryText, join: exp.Join, aliases: tuple[str, str]) -> tuple[Bound, list[exp.Expr]]:
    """What DATEDIFF in ON says of the sides of these names, and the other conditions there. `QueryError`."""
    on = join.args.get("on")
    if on is None:
        raise query.error(f"JOIN says with ON what belongs together, as in {EXAMPLE}", join.this)
    check_parts(query, on)
    check_functions(query, on)
    found = [(condition, _bound(query, condition, aliases)) for condition in conjuncts(on)]
    bounds = [bound for _, bound in found if bound is not None]
    if not bounds:
        one, other = aliases
        raise query.error(
            "events are joined within a bound of time, because a stream has no end: add "
            f"AND DATEDIFF(second, {one}, {other}) BETWEEN 0 AND 10",
            on,
        )
    low, high = max(bound.low for bound in bounds), min(bound.high for bound in bounds)
    if low > high:
        raise query.error("no pair of events can be within these bounds; the lower one comes first", on)
    if max(abs(low), abs(high)) > _LONGEST:
        raise query.error("a bound of more than 366 days is not supported", on)
    return Bound(low, high), [condition for condition, bound in found if bound is None]


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """The conditions that stand with AND between them."""
    inner = node.unnest()
    if not isinstance(inner, exp.And):
        return [inner]
    return [*conjuncts(inner.this), *conjuncts(inner.expression)]


def _bound(query: QueryText, node: exp.Expr, aliases: tuple[str, str]) -> Bound | None:
    between = isinstance(node, exp.Between)
    call = node.this if between else next(node.find_all(exp.Anonymous), node)
    if not isinstance(call, exp.Anonymous) or call.name != "date_diff":
        return None
    part, *sides = call.expressions
    names = [_name(side) for side in sides]
    if not set(names) & set(aliases):
        return None
    limits = (_whole(node.args["low"]), _whole(node.args["high"])) if between else (None, None)
    if set(names) != set(aliases) or limits[0] is None or limits[1] is None or part.name not in UNITS:
        one, other = aliases
        raise query.error(
            f"DATEDIFF of the sides of a JOIN is written DATEDIFF(second, {one}, {other}) BETWEEN 0 AND 10, in "
            "milliseconds, seconds, minutes, hours or days",
            node,
        )
    low, high = limits[0] * UNITS[part.name], limits[1] * UNITS[part.name]
    return Bound(low, high) if names[0] == aliases[0] else Bound(-high, -low)


def _name(side: exp.Expr) -> str | None:
    """The name by itself that DATEDIFF is given, which is cast to a time by then."""
    column = side.this if isinstance(side, exp.Cast) else None
    return column.name if isinstance(column, exp.Column) and not column.table else None


def _whole(node: exp.Expr) -> int | None:
    number = node.this if isinstance(node, exp.Neg) else node
    if not isinstance(number, exp.Literal) or number.is_string or not number.name.isdigit():
        return None
    return -int(number.name) if isinstance(node, exp.Neg) else int(number.name)
