"""Where reference data comes from: a file that DuckDB reads, or a database that SQLAlchemy does.

What is read is put in order, so that the same rows are the same content whatever order a database gives them in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.errors import ReferenceDataError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MOST_BYTES = 64 << 20
"""The largest content, as Arrow holds it: every worker has it in memory, and every version is kept in the log."""

_FILES = {".csv": "read_csv", ".tsv": "read_csv", ".parquet": "read_parquet"}
_PLAIN = (str, int, float, bool, bytes)


@dataclass(frozen=True, slots=True)
class Source:
    """A file (`.csv`, `.tsv`, `.parquet`), or with `select` what a database of that SQLAlchemy URL answers. `types` are
    DuckDB types of columns, where what the file says of itself is not meant."""

    location: str
    select: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Content:
        """What is there now. `ReferenceDataError`: it cannot be read, or is no table to join with."""
        import duckdb  # only applications with reference data need it this early

        with closing(duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": "false"})) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            try:
                relation = self._from_database(connection) if self.select else self._from_file(connection)
                content = _content(relation, self.types)
            except duckdb.Error as error:
                raise ReferenceDataError(f"{self.location} cannot be read: {_first_line(error)}") from None
        if content.table.nbytes > MOST_BYTES:
            size = f"{content.table.nbytes >> 20} MB in {len(content.table):,} rows"
            raise ReferenceDataError(
                f"{self.location} is too large: {size}, and at most {MOST_BYTES >> 20} MB are held"
            )
        return content

    def _from_file(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
        path = Path(self.location)
        reader = _FILES.get(path.suffix.lower())
        if reader is None:
            known = ", ".join(_FILES)
            raise ReferenceDataError(
                f"{self.location} is neither a file that ends with {known}, nor the URL of a database (as in "
                "postgresql+psycopg://host/plant or sqlite:///plant.db)"
            )
        if not path.is_file():
            raise ReferenceDataError(f"there is no file {self.location}")
        if reader == "read_parquet":
            return connection.read_parquet(str(path))
        return connection.read_csv(str(path), header=True, sample_size=-1, dtype=dict(self.types))

    def _from_database(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
        import pyarrow as pa
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError

        try:
            engine = create_engine(self.location)
            try:
                with engine.connect() as reading:
                    result = reading.execute(text(self.select or ""))
                    names, rows = list(result.keys()), result.fetchall()
            finally:
                engine.dispose()
        except (SQLAlchemyError, ImportError) as error:
            cause = error.__cause__ or error
            raise ReferenceDataError(f"the database does not answer: {_first_line(cause)}") from None
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        arrays = [pa.array([_plain(value) for value in column]) for column in columns]
        table = pa.Table.from_arrays([_known(array) for array in arrays], names=names)
        return connection.from_arrow(table)


@dataclass(frozen=True)
class Content:
    """A table to join with: its rows in order, and the DuckDB types of its columns."""

    table: pa.Table
    types: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """The same for the same content."""
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table.combine_chunks())
        return hashlib.blake2b(sink.getvalue(), digest_size=8).hexdigest()

    def twice(self, columns: Sequence[str]) -> Mapping[str, Any] | None:
        """Values of columns that several rows have, which cannot be told apart then; None: there are none."""
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = self.table.select(list(columns)).drop_null()
        counts = chosen.append_column("#n", pa.array([1] * len(chosen), pa.int64())).group_by(list(columns))
        found = counts.aggregate([("#n", "sum")]).filter(pc.greater(pc.field("#n_sum"), 1)).slice(0, 1)
        return found.select(list(columns)).to_pylist()[0] if len(found) else None

    def unfit(self, column: str, type_: str) -> Any:
        """A value of a column that cannot be of a type; None: all can."""
        if self.types[column] == type_:
            return None
        import duckdb

        with closing(duckdb.connect(config={"threads": 1})) as connection:
            values = connection.from_arrow(self.table.select([column]).rename_columns(["value"]))
            found = values.filter(f"value IS NOT NULL AND TRY_CAST(value AS {type_}) IS NULL").limit(1).fetchall()
        return found[0][0] if found else None


def _content(relation: duckdb.DuckDBPyRelation, types: Mapping[str, str]) -> Content:
    columns = dict(zip(relation.columns, map(str, relation.types), strict=True))
    for name in types:
        if name not in columns:
            raise ReferenceDataError(
                f"types= names a column {name!r}, which is not there; there are {_listed(columns)}"
            )
    wanted = {name: types.get(name) or _without_zone(type_) for name, type_ in columns.items()}
    cast = ", ".join(f'"{_escaped(name)}"::{type_} AS "{_escaped(name)}"' for name, type_ in wanted.items())
    chosen = relation.project(cast)
    known = dict(zip(chosen.columns, map(str, chosen.types), strict=True))
    return Content(chosen.order("ALL").to_arrow_table(), known)


def _without_zone(type_: str) -> str:
    """Instants are UTC without a zone, as everywhere in queries; a column of which nothing is known is text."""
    return {"TIMESTAMP WITH TIME ZONE": "TIMESTAMP", '"NULL"': "VARCHAR"}.get(type_, type_)


def _plain(value: Any) -> Any:
    """What a driver gives, as Arrow takes it: exact decimals as floating numbers, ids as text."""
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, _PLAIN) or hasattr(value, "isoformat") else str(value)


def _known(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _listed(names: Mapping[str, str]) -> str:
    return ", ".join(names)


def _escaped(name: str) -> str:
    return name.replace('"', '""')
