"""Positions of a partition whose events are completed out of order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.streams import make_batch

from millstream.event import Event
from millstream.log import Position
from millstream.topic import Filter
from millstream.worker.progress import Progress
from millstream.worker.segment import Segment

WANTED = Filter.parse("wanted")


def segment(records: dict[int, bool], next_offset: int) -> Segment:
    """A batch with events at these offsets, each wanted or of another topic."""
    events = [Event(topic="wanted" if wanted else "other", key="k") for wanted in records.values()]
    return Segment(make_batch(events, list(records), next_offset=next_offset), WANTED)


def test_low_water_offset_is_the_first_event_under_way() -> None:
    progress, part = Progress(Position(10)), segment(dict.fromkeys(range(10, 14), True), 14)
    progress.add(part)
    assert progress.position() == Position(10)
    part.complete(1)
    part.complete(3)
    assert progress.position() == Position(10, (11, 13))
    part.complete(0)
    assert progress.position() == Position(12, (13,))
    part.complete(2)
    assert progress.position() == Position(14)


def test_segment_behind_one_under_way_is_listed_whole_and_freed() -> None:
    progress = Progress(Position(0))
    first, second = segment({0: True}, 1), segment({1: True, 2: True}, 3)
    progress.add(first)
    progress.add(second)
    size = progress.size
    second.complete(0)
    second.complete(1)
    assert progress.position() == Position(0, (1, 2))
    assert progress.size < size
    first.complete(0)
    assert progress.position() == Position(3)
    assert (progress.size, progress.under_way) == (0, 0)


def test_what_was_done_before_stays_done_until_it_is_passed() -> None:
    progress = Progress(Position(5, (7, 9)))
    part = segment({5: True, 6: True, 8: True}, 9)
    progress.add(part)
    part.complete(1)
    assert progress.position() == Position(5, (6, 7, 9))
    part.complete(0)
    assert progress.position() == Position(8, (9,))
    part.complete(2)
    assert progress.position() == Position(10)


def test_skipped_events_are_counted_when_they_are_passed() -> None:
    progress = Progress(Position(0))
    part = segment({0: False, 1: False, 2: True, 3: False, 4: True, 5: False}, 6)
    progress.add(part)
    assert (progress.position(), progress.take_skipped()) == (Position(2), 2)
    part.complete(1)
    assert (progress.position(), progress.take_skipped()) == (Position(2, (4,)), 0)
    part.complete(0)
    assert (progress.position(), progress.take_skipped()) == (Position(6), 2)


def test_batches_of_other_topics_cost_nothing_while_one_is_under_way() -> None:
    progress = Progress(Position(0))
    part = segment({0: True}, 1)
    progress.add(part)
    size = progress.size
    for offset in range(1, 100):
        progress.add(segment({offset: False}, offset + 1))
    assert progress.size == size
    part.complete(0)
    assert (progress.position(), progress.take_skipped()) == (Position(100), 99)


@st.composite
def _histories(draw: st.DrawFn) -> tuple[Position, list[tuple[dict[int, bool], int]], list[int]]:
    """A position, the batches that are read from there, and an order in which wanted events are completed."""
    low = draw(st.integers(0, 3))
    offset, batches = low, []
    earlier = draw(st.sets(st.integers(low + 1, low + 12), max_size=3))
    for _ in range(draw(st.integers(1, 4))):
        records = {}
        for _ in range(draw(st.integers(0, 5))):
            offset += draw(st.integers(0, 1))  # a gap
            while offset in earlier:
                offset += 1
            records[offset] = draw(st.booleans())
            offset += 1
        batches.append((records, offset))
    wanted = [offset for records, _ in batches for offset, wanted in records.items() if wanted]
    return Position(low, tuple(sorted(earlier))), batches, draw(st.permutations(wanted))


@given(_histories(), st.data())
def test_whoever_takes_over_reads_exactly_what_is_not_completed(
    history: tuple[Position, list[tuple[dict[int, bool], int]], list[int]], data: st.DataObject
) -> None:
    start, batches, order = history
    progress, places = Progress(start), {}
    for records, next_offset in batches:
        part = segment(records, next_offset)
        progress.add(part)
        places.update({offset: (part, index) for index, offset in enumerate(part.offsets)})
    completed = order[: data.draw(st.integers(0, len(order)))]
    skipped, last = 0, start
    for offset in completed:
        part, index = places[offset]
        part.complete(index)
        if data.draw(st.booleans()):
            last = progress.position()
            skipped += progress.take_skipped()
    position = progress.position()
    skipped += progress.take_skipped()
    assert position.low >= last.low
    assert list(position.done) == sorted(set(position.done))
    assert position.low not in position.done

    def is_read_again(offset: int) -> bool:
        return offset >= position.low and offset not in position.done

    everything = {offset: wanted for records, _ in batches for offset, wanted in records.items()}
    for offset, wanted in everything.items():
        if wanted:
            assert is_read_again(offset) == (offset not in completed)
    assert not any(is_read_again(offset) for offset in start.done)
    assert skipped == sum(not wanted and offset < position.low for offset, wanted in everything.items())
    if len(completed) == len(order):
        assert not any(is_read_again(offset) for offset in everything)
