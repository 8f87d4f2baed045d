"""DuckDB in memory as the engine's calculator: locked down, fed with Arrow, answering with Arrow.

Queries come from users, so the connection reaches nothing outside: no files, no network, no extensions to load.
A statement is prepared once. It scans *sources*, whose tables are exchanged between runs: a source hands DuckDB its
present table through Arrow's C stream interface, without a copy, and the statement stays valid (measured: 0.9 ms a run
over one row, 2.4 ms when a table is registered and the text planned anew each time).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import duckdb
import pyarrow as pa

_MEMORY = "1GB"  # DuckDB's own bound; a step of 256 K events needs some 50 MB
_SCAN_ROWS = 1 << 13  # DuckDB gives each thread a record batch at a time


class Source:
    """A table that statements scan by name; `table` may be exchanged for another of the same schema."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def put(self, table: pa.Table) -> None:
        """Exchange the table; large record batches are cut (without a copy) so that every thread gets some."""
        self.table = pa.Table.from_batches(table.to_batches(max_chunksize=_SCAN_ROWS), table.schema)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


class Statement:
    """A prepared query over sources."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        self._connection = connection
        self._execute = f"EXECUTE {name}"

    def run(self) -> pa.Table:
        """The answer over what the sources hold now."""
        return self._connection.sql(self._execute).to_arrow_table()


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
    """One in-memory database, for one thread at a time."""

    def __init__(self, threads: int | None = None) -> None:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": _MEMORY,
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        if threads is not None:
            config["threads"] = threads
        self._numbers = itertools.count()
        self._connection = duckdb.connect(":memory:", config=config)
        # a timestamp without a zone is UTC, whatever the machine's zone
        self._connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")

    def source(self, name: str, schema: pa.Schema) -> Source:
        """A new, empty source."""
        source = Source(schema.empty_table())
        self._connection.register(name, source)
        return source

    def statement(self, text: str) -> Statement:
        """Prepare a query; every source that it names must be there."""
        name = f"statement_{next(self._numbers)}"
        self._connection.execute(f"PREPARE {name} AS {text}")
        return Statement(self._connection, name)

    def types(self, text: str) -> list[str]:
        """The types of a query's columns, as it binds; it does not run."""
        return [str(type_) for type_ in self._connection.sql(text).types]

    def close(self) -> None:
        self._connection.close()
