"""Counting events by reading them once, beside counting them all again."""

from __future__ import annotations

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_logs import message

from millstream.log.kafka.record import TICK
from millstream.log.kafka.scan import Scan

offsets = st.integers(0, 60)
kinds = st.lists(st.sampled_from(["event", "ours", "tick", "gap"]), max_size=60)


class Partition:
    """Records at offsets, with gaps; a read gives some of them at a time."""

    def __init__(self, kinds: list[str], at_once: int) -> None:
        self.kinds = kinds
        self._at_once = at_once
        self.reads = 0

    def read(self, start: int, end: int) -> tuple[list[Message], int]:
        self.reads += 1
        next_offset = min(end, start + self._at_once)
        return [
            self._message(offset) for offset in range(start, next_offset) if self._kind(offset) != "gap"
        ], next_offset

    def events(self, start: int, end: int) -> int:
        return sum(kind in ("event", "ours") for kind in self.kinds[start:end])

    def _kind(self, offset: int) -> str:
        return self.kinds[offset] if offset < len(self.kinds) else "gap"

    def _message(self, offset: int) -> Message:
        if self._kind(offset) == "tick":
            return message(None, None, TICK, offset=offset)
        return message(b"x", None, [("millstream-group", b"g")] if self._kind(offset) == "ours" else [], offset=offset)


@given(kinds, st.integers(1, 7), offsets, st.lists(offsets, max_size=4).map(sorted), st.lists(offsets, max_size=8))
def test_it_counts_what_is_there_however_it_was_read(
    kinds: list[str], at_once: int, first: int, ends: list[int], asked: list[int]
) -> None:
    partition = Partition(kinds, at_once)
    scan = Scan(first)
    for number, end in enumerate(ends):
        scan.extend(partition.read, end, asked if number % 2 else ())
        reached = max([first, *ends[: number + 1]])
        assert scan.events == partition.events(first, reached)
        for offset in asked:
            assert scan.before(partition.read, offset) == partition.events(first, min(offset, reached))
    assert scan.sources["g"] == sum(kind == "ours" for kind in kinds[first : scan.next])
    assert sum(scan.sources.values()) == scan.events


def test_what_was_asked_for_while_reading_is_not_read_again() -> None:
    partition = Partition(["event"] * 50, 20)
    scan = Scan(0)
    scan.extend(partition.read, 50, [13, 27])
    before = partition.reads
    assert [scan.before(partition.read, offset) for offset in (0, 13, 27, 50)] == [0, 13, 27, 50]
    assert partition.reads == before
    scan.extend(partition.read, 50)
    assert partition.reads == before
