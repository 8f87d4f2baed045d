"""What DuckDB knows of functions and types, asked of DuckDB itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import duckdb
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.engine.duck import Duck, select
from millstream.engine.fragments import literal

_CHOICE = ("VARCHAR", "DOUBLE", "BOOLEAN", "TIMESTAMP", "BIGINT")
"""Where a function takes several types, an untyped field is the first of these that it takes."""

_ZONED = {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS", "TIME WITH TIME ZONE"}
"""Overloads for these depend on the zone that is set, which is UTC for good (`engine.duck`)."""

_CLOCKS = {"age"}
"""DuckDB calls it consistent, but with one argument it looks at the clock."""


@dataclass(frozen=True, slots=True)
class Functions:
    """DuckDB's functions by name: those that aggregate, those whose result is not settled by their arguments (clocks,
    dice, settings), and the types that scalar functions take."""

    aggregates: frozenset[str]
    unsettled: frozenset[str]
    overloads: dict[str, list[list[str]]]

    def wanted(self, name: str, place: int, count: int) -> str | None:
        """The type that an untyped argument at `place` of `count` should have; None: any will do."""
        types = {
            overload[min(place, len(overload) - 1)]
            for overload in self.overloads.get(name, ())
            if len(overload) == count or (overload and len(overload) < count)
        }
        return next((choice for choice in _CHOICE if choice in types), None)


@lru_cache(maxsize=1)
def functions() -> Functions:
    """The functions of the DuckDB that is installed."""
    duck = Duck()
    try:
        rows = duck.statement(
            "SELECT function_name, function_type, parameter_types, stability FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate', 'macro')"
        ).run()
    finally:
        duck.close()
    aggregates: set[str] = set()
    scalars: set[str] = set()
    unsettled = set(_CLOCKS)
    overloads: dict[str, list[list[str]]] = {}
    for row in rows.to_pylist():
        name = row["function_name"]
        (aggregates if row["function_type"] == "aggregate" else scalars).add(name)
        if row["stability"] not in ("CONSISTENT", None) and not _ZONED & set(row["parameter_types"]):
            unsettled.add(name)
        if row["function_type"] == "scalar":
            overloads.setdefault(name, []).append(row["parameter_types"])
    return Functions(frozenset(aggregates - scalars), frozenset(unsettled), overloads)


def function_name(node: exp.Expr) -> str:
    """The name of a function in DuckDB; empty for what is no call."""
    if isinstance(node, exp.Binary):  # the parser counts AND and OR among the functions
        return ""
    head, bracket, _ = node.sql(dialect=DuckDB).partition("(")
    return head.lower() if bracket and head.isidentifier() else ""


class Binder:
    """Finds the types of fragments by binding them in DuckDB, without running anything."""

    def __init__(self) -> None:
        self._duck = Duck().lock()

    def type_of(self, sql: str, columns: dict[str, str]) -> str:
        """The type of a fragment over columns of these types. `ValueError` with DuckDB's reason if it does not bind."""
        nulls = [f"NULL::{type_} AS {quoted}" for quoted, type_ in columns.items()]
        try:
            return self._duck.types(select([f"TRY({sql})"], f"SELECT {', '.join(nulls) or 1}"))[0]
        except duckdb.Error as error:
            raise ValueError(_plain(str(error))) from None

    def type_of_call(self, call: str, arguments: Sequence[str]) -> str:
        """The type of an aggregate over rows `e` with arguments `"#0"`, … of these types. `ValueError`: see above."""
        fields = ", ".join(f"{literal(f'#{number}')}: NULL::{type_}" for number, type_ in enumerate(arguments))
        row = f"SELECT {{{fields}}} AS e" if arguments else "SELECT NULL AS e"
        try:
            return self._duck.types(select([call], row))[0]
        except duckdb.Error as error:
            raise ValueError(_plain(str(error))) from None

    def close(self) -> None:
        self._duck.close()


def _plain(message: str) -> str:
    """DuckDB's message without its kind, its drawing of the place (which is in our text, not in the user's), and all
    the candidates."""
    kept = message.split("\n\nLINE")[0].split("\tCandidate functions")[0].split("\nCandidate bindings")[0]
    _, _, text = kept.partition("Error: ")
    return " ".join((text or kept).split())
