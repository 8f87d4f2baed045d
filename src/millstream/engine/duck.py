"""DuckDB in memory as the engine's calculator: locked down, fed with Arrow, answering with Arrow.

Queries come from users, so the connection reaches nothing outside: no files, no network, no extensions to load.
A statement is prepared once, and never bound again. It scans a *source*, whose table is exchanged between runs: a
source hands DuckDB its present table through Arrow's C stream interface, without a copy. How long a run takes over 16
rows was measured: 3.6 ms for the plain text; 2.2 ms when the source is a registered view, which DuckDB binds anew each
time; 0.95 ms as a relation, which puts its answer into a table of its own and binds a second statement to read that as
Arrow; 0.37 ms when it is fetched row by row. So few rows go that way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.types as pt

FEW_ROWS = 256  # of a source: making Python's values of the answer costs less than a relation
_MEMORY = "1GB"  # DuckDB's own bound; a step of 256 K events needs some 50 MB


class Source:
    """A table that statements scan; it may be exchanged for another one of its schema. At first it is empty."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.table = schema.empty_table()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Statement:
    """A prepared query, over what its source holds now (without one: over nothing that changes)."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str, source: Source | None) -> None:
        self._connection = connection
        self._execute = f"EXECUTE {name}"
        self._source = source
        self._schema: pa.Schema | None = None  # of the answer, as the first run tells

    def run(self) -> pa.Table:
        """The answer."""
        schema = self._schema
        if schema is not None and self._source is not None and len(self._source.table) <= FEW_ROWS:
            rows = self._connection.execute(self._execute).fetchall()
            columns = zip(*rows, strict=True) if rows else [()] * len(schema)
            arrays = [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)]
            return pa.Table.from_arrays(arrays, schema=schema)
        table = self._connection.sql(self._execute).to_arrow_table()
        if all(map(_is_exact, table.schema.types)):
            self._schema = table.schema
        return table


def _is_exact(type_: pa.DataType) -> bool:
    """Whether every value of a type is the same on its way through Python; times are not: Python has fewer of them."""
    kinds = (pt.is_integer, pt.is_boolean, pt.is_floating, pt.is_string, pt.is_decimal)
    return any(is_kind(type_) for is_kind in kinds)


def select(
    columns: Iterable[str],
    source: str,
    *,
    where: str | None = None,
    group: Iterable[str] = (),
    order: Iterable[str] = (),
) -> str:
    """The text of a query; `source` is a name, or the text of an inner query."""
    inner = source if source.isidentifier() else f"({source})"
    clauses = ["SELECT", ", ".join(columns), "FROM", inner]
    clauses += ["WHERE", where] if where is not None else []
    for clause, names in (("GROUP BY", list(group)), ("ORDER BY", list(order))):
        clauses += [clause, ", ".join(names)] if names else []
    return " ".join(clauses)


class Duck:
    """A connection to an in-memory database, for one thread at a time. It works in the thread that calls."""

    def __init__(self) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "threads": 1,
            "async_threads": 0,  # eight for each connection, which wait for files that it cannot reach
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._numbers = itertools.count()
        self._connection = duckdb.connect(":memory:", config=config)
        # a timestamp without a zone is UTC, whatever the machine's zone
        self._connection.execute("SET TimeZone = 'UTC'")

    def statement(self, text: str, source: Source | None = None, beside: Source | None = None) -> Statement:
        """Prepare a query; what it scans is named `source` in its text, and a second table `beside`.
        Not possible after `lock`."""
        name = f"statement_{next(self._numbers)}"
        self._connection.execute(f"PREPARE {name} AS {text}")  # finds `source` among the variables here
        return Statement(self._connection, name, source)

    def lock(self) -> Duck:
        """From now on nothing outside can be reached, and no setting changed. Before anything of a user's runs."""
        self._connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        return self

    def types(self, text: str) -> list[str]:
        """The types of a query's columns, as it binds; it does not run."""
        return [str(type_) for type_ in self._connection.sql(text).types]

    def close(self) -> None:
        self._connection.close()
