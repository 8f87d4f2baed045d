"""Chunks that were unpacked before."""

from __future__ import annotations

from tests.support.records import events

from millstream.log.sqlite.format import Row, pack, row_id, seal
from millstream.log.sqlite.unpacked import Unpacked


def make_row(offset: int, *payloads: str) -> Row:
    (body,) = pack(events(*payloads))
    return seal(row_id(1, offset), len(payloads), body, None, (5, 5), offset, 0)


def test_a_chunk_is_unpacked_once() -> None:
    unpacked = Unpacked()
    row = make_row(0, "a", "b")
    records = unpacked.unpack(row, "s", 0)
    assert records.held.column("data").to_pylist() == [b"a", b"b"]
    assert unpacked.unpack(row, "s", 0) is records
    merged = make_row(0, "a", "b", "c")  # with the next one, in the same place
    assert len(unpacked.unpack(merged, "s", 0)) == 3
    assert len(unpacked.unpack(row, "s", 0)) == 2


def test_the_ones_used_longest_ago_go_first_and_memory_is_bounded() -> None:
    unpacked = Unpacked(limit_bytes=10_000)
    rows = [make_row(number, f"{number}") for number in range(50)]
    first = unpacked.unpack(rows[0], "s", 0)
    for row in rows:
        unpacked.unpack(row, "s", 0)
        assert unpacked.unpack(rows[0], "s", 0) is first
        assert unpacked._bytes <= 10_000
    assert len(unpacked._kept) < 10
    large = make_row(99, "x" * 20_000)
    assert len(unpacked.unpack(large, "s", 0)) == 1
    assert unpacked._bytes <= 10_000
