"""Aggregates that split: events fold to partial values, partial values merge in any grouping and order, and a window's
partial values finish as its result.

So a window may be gathered from any number of batches, and its state is a few values however many events it has seen.
Floating sums depend on the order of merging in their last digits; everything else is exact.

Arithmetic: integers are summed as `DECIMAL(38, 0)` (which Arrow can carry, unlike DuckDB's `HUGEINT`) and decimals as
`DECIMAL(38, s)`: of arguments of at most 64 bits or 18 digits no sum of fewer than 10^19 events overflows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from millstream.engine.plan import ORDERED, Aggregate

_SPREAD = {
    "var_pop": "{0}.m2 / {0}.n",
    "var_samp": "{0}.m2 / nullif({0}.n - 1, 0)",
    "stddev_pop": "sqrt({0}.m2 / {0}.n)",
    "stddev_samp": "sqrt({0}.m2 / nullif({0}.n - 1, 0))",
}

SPLITTABLE = ("count", "sum", "avg", "min", "max", *_SPREAD, *ORDERED)
"""The aggregates of which a window keeps partial values. It keeps its events for every other one."""

OFFSET = "#offset"
"""The column with the place of an event in the log, if an aggregate depends on the order of events."""

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
FLOATS = {"FLOAT", "DOUBLE"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_NESTED = re.compile(r"(STRUCT|MAP|UNION|JSON|BLOB|BIT|VARIANT)\b|.*\[\d*\]$")


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial value: how events fold to one (`{0}` stands for the argument), the aggregate that merges such values
    (`{0}` stands for one), and what is made of its answer."""

    fold: str
    merge: str
    after: str = "{0}"

    def merged(self, name: str, over: str = "") -> str:
        """How the values of a column merge; `over` a window frame."""
        return self.after.format(f"{self.merge.format(name)}{over}")


KEPT = Partial("", "list({0})", "flatten({0})")
"""The events of a window, as a list of rows."""

# the count, the mean, and the sum of squared distances from it: Chan, Golub and LeVeque, 1979
_SPREAD_OF_TWO = (
    "lambda a, b: {{'n': a.n + b.n, 'mean': a.mean + (b.mean - a.mean) * b.n / (a.n + b.n), "
    "'m2': a.m2 + b.m2 + (b.mean - a.mean) ** 2 * a.n * b.n / (a.n + b.n)}}"
)
_SPREAD_PARTIAL = Partial(
    "CASE WHEN count({0}) > 0 THEN struct_pack(n := count({0}), mean := avg({0}::DOUBLE), "
    "m2 := var_pop({0}::DOUBLE) * count({0})) END",
    "list({0}) FILTER (WHERE {0} IS NOT NULL)",
    f"list_reduce({{0}}, {_SPREAD_OF_TWO})",
)


def is_plain(type_: str) -> bool:
    """Whether values of a type are single ones that can be compared: no lists, objects or bytes."""
    return not _NESTED.match(type_)


def is_json(type_: str) -> bool:
    """Whether JSON can say values of a type, as it stands: no bytes, and no times inside of lists and objects, which
    would not be in RFC 3339."""
    return is_plain(type_) or not re.search(r"BLOB|BIT\b|UNION|VARIANT|TIME|DATE|INTERVAL", type_)


def sum_type(argument: str) -> str | None:
    """The type in which values of a type are summed without loss; None: they are not summed."""
    if argument in _INTEGERS:
        return "DECIMAL(38,0)"
    if argument in FLOATS:
        return "DOUBLE"
    decimal = _DECIMAL.fullmatch(argument)
    return f"DECIMAL(38,{decimal[2]})" if decimal and int(decimal[1]) <= 18 else None


def result_type(function: str, arguments: Sequence[str]) -> str | None:
    """The type of an aggregate of arguments of these types; None: the function does not take them."""
    match function, tuple(arguments):
        case "count", () | (_,):
            return "BIGINT"
        case "sum", (argument,) if summed := sum_type(argument):
            return "HUGEINT" if summed == "DECIMAL(38,0)" else summed
        case "avg", (argument,) if sum_type(argument):
            return "DOUBLE"
        case "min" | "max", (argument,) if is_plain(argument):
            return argument
        case function, (argument,) if function in _SPREAD and sum_type(argument):
            return "DOUBLE"
        case "first" | "last", (argument,) if is_plain(argument) or argument == "JSON":
            return argument
        case "arg_min" | "arg_max", (argument, _, *_) if is_plain(argument) or argument == "JSON":
            return argument if all(map(is_plain, arguments[1:])) else None
    return None


def split(aggregate: Aggregate) -> tuple[tuple[Partial, ...], str]:
    """The partial values of an aggregate, and how they finish (`{0}`, `{1}` stand for them, merged)."""
    count = Partial("count({0})", "sum({0})")
    match aggregate.function:
        case "count":
            return ((count if aggregate.arguments else Partial("count(*)", "sum({0})")),), "{0}"
        case "sum":
            summed = sum_type(aggregate.argument_types[0])
            return (Partial(f"sum({{0}}::{summed})", "sum({0})"),), f"{{0}}::{aggregate.type}"
        case "avg":
            return (Partial("sum({0}::DOUBLE)", "sum({0})"), count), "{0} / nullif({1}, 0)"
        case "min" | "max":
            return (Partial(f"{aggregate.function}({{0}})", f"{aggregate.function}({{0}})"),), "{0}"
        case function if function in _SPREAD:
            return (_SPREAD_PARTIAL,), _SPREAD[function]
        case function if function in ORDERED:
            return (_choice(aggregate),), f"{{0}}.v::{aggregate.type}"
    raise ValueError(f"{aggregate.function} does not split")


def _choice(aggregate: Aggregate) -> Partial:
    """The event that comes first in an order, as a row that begins with what orders it: so it is the least or the
    largest of such rows."""
    latest = aggregate.function in ("last", "arg_max")
    is_by_time = len(aggregate.arguments) == 1
    keys = [f"k{n} := {{{n}}}" for n in range(1, len(aggregate.arguments))]
    sign = "-" if latest and not is_by_time else ""  # among equals the earliest
    row = ", ".join([*keys, f"t := {sign}time", f'o := {sign}"{OFFSET}"', "v := {0}"])
    function = "max" if latest else "min"
    known = "" if is_by_time else " AND ".join(f"{{{n}}} IS NOT NULL" for n in range(len(aggregate.arguments)))
    chosen = f" FILTER (WHERE {known})" if known else ""
    return Partial(f"{function}(struct_pack({row})){chosen}", f"{function}({{0}})")
