"""What reference data is read from, and what comes of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from millstream.errors import ReferenceDataError
from millstream.reference import Pieces, Source, decode, encode
from millstream.reference import source as source_module


def test_types_of_a_csv_file_are_those_of_all_its_values(tmp_path: Path) -> None:
    file = tmp_path / "machines.csv"
    file.write_text("id,serial,since,line\n1,007,2026-01-01,\n2,x8,2026-01-02,A\n")
    content = Source(str(file)).read()
    assert content.types == {"id": "BIGINT", "serial": "VARCHAR", "since": "DATE", "line": "VARCHAR"}
    assert content.table.to_pylist()[0] == {"id": 1, "serial": "007", "since": date(2026, 1, 1), "line": None}


def test_declared_types_count_more_than_what_a_file_looks_like(tmp_path: Path) -> None:
    file = tmp_path / "machines.csv"
    file.write_text("serial\n007\n")
    assert Source(str(file), None, {"serial": "VARCHAR"}).read().table.to_pylist() == [{"serial": "007"}]


def test_parquet_has_types_of_its_own_and_instants_lose_their_zone(tmp_path: Path) -> None:
    file = tmp_path / "machines.parquet"
    pq.write_table(pa.table({"at": pa.array([0], pa.timestamp("us", "UTC")), "x": pa.array([1], pa.int32())}), file)
    content = Source(str(file), None, {"x": "DOUBLE"}).read()
    assert content.types == {"at": "TIMESTAMP", "x": "DOUBLE"}
    assert content.table.to_pylist() == [{"at": datetime.fromisoformat("1970-01-01T00:00"), "x": 1.0}]


def test_database_answers_a_select(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "plant.db")) as database:
        database.execute("CREATE TABLE machines (id INTEGER, line TEXT, note TEXT)")
        database.execute("INSERT INTO machines VALUES (2, 'B', NULL), (1, 'A', NULL)")
        database.commit()
    content = Source(f"sqlite:///{tmp_path}/plant.db", "SELECT * FROM machines").read()
    assert content.types == {"id": "BIGINT", "line": "VARCHAR", "note": "VARCHAR"}
    assert [row["line"] for row in content.table.to_pylist()] == ["A", "B"]
    assert (
        Source(f"sqlite:///{tmp_path}/plant.db", "SELECT * FROM machines ORDER BY line").read().digest == content.digest
    )
    with pytest.raises(ReferenceDataError, match="the database does not answer: no such table: machine"):
        Source(f"sqlite:///{tmp_path}/plant.db", "SELECT * FROM machine").read()


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReferenceDataError, match="there is no file"):
        Source(str(tmp_path / "machines.csv")).read()
    with pytest.raises(ReferenceDataError, match="neither a file that ends with"):
        Source(str(tmp_path / "machines.xls")).read()
    file = tmp_path / "machines.parquet"
    file.write_bytes(b"no parquet at all")
    with pytest.raises(ReferenceDataError, match=r"machines.parquet cannot be read: .*"):
        Source(str(file)).read()
    csv = tmp_path / "machines.csv"
    csv.write_text("id\n1\n")
    with pytest.raises(ReferenceDataError, match=r'machines.csv cannot be read: .*"ident"'):
        Source(str(csv), None, {"ident": "BIGINT"}).read()
    with closing(sqlite3.connect(tmp_path / "plant.db")) as database:
        database.execute("CREATE TABLE machines (id INTEGER)")
    with pytest.raises(ReferenceDataError, match="types= names a column 'ident', which is not there; there are id"):
        Source(f"sqlite:///{tmp_path}/plant.db", "SELECT * FROM machines", {"ident": "BIGINT"}).read()
    monkeypatch.setattr(source_module, "MOST_BYTES", 4)
    with pytest.raises(ReferenceDataError, match="too large"):
        Source(str(csv)).read()


def test_version_is_put_together_from_pieces_that_stand_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.reference.version._PIECE_BYTES", 200)
    contents = []
    for name in "ab":
        file = tmp_path / f"{name}.csv"
        file.write_text("id,text\n" + "".join(f"{n},{name}{n * n}\n" for n in range(200)))
        contents.append(Source(str(file)).read())
    one, other = (encode("machines", content) for content in contents)
    assert len(one) > 3
    pieces = Pieces()
    mixed = [event for pair in zip(one, other, strict=False) for event in pair]
    mixed += [*one[len(other) :], *other[len(one) :]]
    found = dict(whole for event in mixed if (whole := pieces.add(event)) is not None)
    assert {digest: decode(events) for digest, events in found.items()} == {c.digest: c.table for c in contents}
