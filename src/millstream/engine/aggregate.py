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

from millstream.engine.plan import Aggregate

SPLITTABLE = ("count", "sum", "avg", "min", "max")
"""The aggregates a window can have."""

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
FLOATS = {"FLOAT", "DOUBLE"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_NESTED = re.compile(r"(STRUCT|MAP|UNION|JSON|BLOB|BIT|VARIANT)\b|.*\[\d*\]$")


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial value: how events fold to one (`{0}` stands for the argument), and the function that merges."""

    fold: str
    merge: str


def is_plain(type_: str) -> bool:
    """Whether values of a type are single ones that can be compared: no lists, objects or bytes."""
    return not _NESTED.match(type_)


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
    return None


def split(aggregate: Aggregate) -> tuple[tuple[Partial, ...], str]:
    """The partial values of an aggregate, and how they finish (`{0}`, `{1}` stand for them, merged)."""
    count = Partial("count({0})", "sum")
    match aggregate.function:
        case "count":
            return ((count if aggregate.arguments else Partial("count(*)", "sum")),), "{0}"
        case "sum":
            summed = sum_type(aggregate.argument_types[0])
            return (Partial(f"sum({{0}}::{summed})", "sum"),), f"{{0}}::{aggregate.type}"
        case "avg":
            return (Partial("sum({0}::DOUBLE)", "sum"), count), "{0} / nullif({1}, 0)"
        case "min" | "max":
            return (Partial(f"{aggregate.function}({{0}})", aggregate.function),), "{0}"
    raise ValueError(f"{aggregate.function} does not split")
