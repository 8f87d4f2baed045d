"""A statement's answer is the same by whichever way it comes."""

from __future__ import annotations

import pyarrow as pa
import pytest

from millstream.engine.duck import Duck, Source

NUMBERS = pa.schema([pa.field("x", pa.int64())])


@pytest.mark.parametrize("values", [[1, -(2**63), None, 2**63 - 1], []])
@pytest.mark.parametrize(
    "column",
    [
        "x",
        "x::DOUBLE / 3",
        "x::DOUBLE * 1e300 * 1e300",
        "x::DECIMAL(38, 0) * 100000",
        "'ü' || x::VARCHAR",
        "x > 0",
        "make_timestamp(x // 8 + 1)",  # some beyond what Python knows
        "[x]",
    ],
)
def test_later_answers_are_as_the_first(column: str, values: list[int | None]) -> None:
    source = Source(NUMBERS)
    statement = Duck().statement(f"SELECT x, {column} AS y FROM source", source)
    source.table = pa.table([values], schema=NUMBERS)
    first = statement.run()
    assert statement.run().equals(first)
    assert len(first) == len(values)


def test_answers_are_over_what_the_source_holds_now() -> None:
    source = Source(NUMBERS)
    statement = Duck().statement("SELECT count(*) AS n FROM source", source)
    for rows in (0, 1, 1000, 2):
        source.table = pa.table([list(range(rows))], schema=NUMBERS)
        assert statement.run().to_pylist() == [{"n": rows}]
