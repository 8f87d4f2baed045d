"""The events that a handler selects of a batch."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tests.support.streams import make_batch

from millstream.event import Batch, Event, Selection
from millstream.topic import Filter
from millstream.worker.addressed import Addressed
from millstream.worker.segment import Segment

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

events = st.lists(
    st.builds(
        Event,
        topic=st.sampled_from(["wanted/a", "wanted/b", "other", "another"]),
        key=st.sampled_from("abc"),
        id=st.none() | st.text(max_size=2),
        payload=st.binary(max_size=3),
        headers=st.sampled_from([{}, {"name": "value"}, {"traceparent": TRACEPARENT}]),
    ),
    max_size=12,
)


@given(events, st.sampled_from([0, 1_000]), st.data())
def test_a_segment_has_the_events_that_match_as_they_stand_in_the_batch(
    events: list[Event], few: int, data: st.DataObject
) -> None:
    batch = make_batch(events, range(7, 7 + len(events)), partition=3, time=1_000_000)
    selected = [event for event in batch if event.topic.startswith("wanted")]
    with mock.patch("millstream.worker.segment._FEW", few):
        segment = Segment(batch, Filter.parse("wanted/#"))
    indices = range(len(segment))
    assert [segment.event(index) for index in indices] == selected
    assert segment.keys == [event.key for event in selected]
    assert [index in segment.traces for index in indices] == ["traceparent" in event.headers for event in selected]
    if selected:
        some = sorted(data.draw(st.sets(st.sampled_from(indices), min_size=1)))
        columns = Batch(batch.stream, 3, segment.columns(some), batch.next_offset)
        assert list(columns) == [selected[index] for index in some]
    segment.let_go()
    assert segment.offsets == [event.offset for event in selected]


@given(events, st.sets(st.integers(0, 11)))
def test_it_makes_no_difference_who_selects(events: list[Event], others: set[int]) -> None:
    batch = make_batch(events, range(7, 7 + len(events)))
    matches = np.array([event.topic.startswith("wanted") for event in events], np.bool_)
    to_others = Addressed(np.array([row in others for row in range(len(events))], np.bool_), ())
    rows = np.flatnonzero(matches)
    by_log = Batch(
        batch.stream,
        batch.partition,
        batch.events.take(pa.array(rows)),
        batch.next_offset,
        selection=Selection(rows, len(events)),
    )
    here = Segment(batch, Filter.parse("wanted/#"), to_others)
    there = Segment(by_log, Filter.parse("wanted/#"), replace(to_others, others=to_others.others[rows]))
    assert [there.event(index) for index in range(len(there))] == [here.event(index) for index in range(len(here))]
    assert [there.skipped_before(index) for index in range(len(there) + 1)] == [
        here.skipped_before(index) for index in range(len(here) + 1)
    ]
