"""What is new of what the client gives, whatever it repeats."""

from __future__ import annotations

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_logs import message

from millstream.log.kafka.fetcher import piece_of

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
