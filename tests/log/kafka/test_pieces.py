"""What is new of what the client gives, whatever it repeats, and how much of it waits."""

from __future__ import annotations

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_logs import message

from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.fetcher import Fetcher, piece_of

OFFSETS = st.integers(0, 12)
READS = st.lists(st.tuples(OFFSETS, st.lists(st.tuples(st.booleans(), OFFSETS), max_size=12)), max_size=8)


def record(offset: int) -> Message:
    return message(b"%d" % offset, b"k", [], offset=offset)


def test_an_end_that_is_told_after_what_stands_behind_it_takes_nothing_back() -> None:
    piece = piece_of("s", [record(10), record(11)], 10, 10)
    assert piece is not None
    assert (piece.offsets.tolist(), piece.next_offset) == ([10, 11], 12)
    piece = piece_of("s", [record(10), record(11)], 11, 10)
    assert piece is not None
    assert (piece.offsets.tolist(), piece.next_offset) == ([10, 11], 12)


def test_records_that_are_given_again_are_not_new() -> None:
    assert piece_of("s", [record(8), record(9)], 10, 10) is None
    piece = piece_of("s", [record(9), record(10), record(9), record(10), record(14)], 16, 10)
    assert piece is not None
    assert (piece.offsets.tolist(), piece.next_offset) == ([10, 14], 16)


@given(READS)
def test_every_offset_is_taken_once_and_in_order(reads: list[tuple[int, list[tuple[bool, int]]]]) -> None:
    """Where the client goes back at will, but passes nothing over."""
    fetched = 0
    taken: list[int] = []
    for back, steps in reads:
        at = max(0, fetched - back)
        messages: list[Message] = []
        end = 0
        for is_end, back_by in steps:
            if is_end:
                end = max(end, at - back_by)
            else:
                messages.append(record(at))
                at += 1
        piece = piece_of("s", messages, end, fetched)
        assert (piece is None) == (at <= fetched)
        if piece is not None:
            taken += piece.offsets.tolist()
            fetched = piece.next_offset
            assert fetched == at
    assert taken == list(range(fetched))


async def test_what_is_read_ahead_is_weighed_until_it_is_taken_or_given_up() -> None:
    fetcher = Fetcher(Cluster("127.0.0.1:1"), lambda: None, sparse=True)
    try:
        for number in (0, 1):
            fetcher.start("s", number, "s", 0, ())
            cursor = fetcher.places["s", number]
            for first in (0, 10, 20):
                piece = piece_of(
                    "s", [message(bytes(400_000), b"k", [], offset=first + n) for n in range(10)], 0, first
                )
                assert piece is not None
                fetcher._add([(cursor, piece, 0)])
        assert not fetcher._room.is_set()
        taken = [batch for _ in range(2) for batch in fetcher.take(6_000_000).batches]  # not where pieces end
        assert fetcher._room.is_set()
        assert {batch.partition for batch in taken} == {0, 1}
        fetcher.stop(("s", 0))
        while more := fetcher.take(6_000_000).batches:
            taken += more
        assert sum(len(batch) for batch in taken if batch.partition == 1) == 30
        assert fetcher._ahead == 0
    finally:
        await fetcher.close()
