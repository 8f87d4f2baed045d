"""From gathered events to appends, against the plainest way to find them; and the tables that make it quick."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.event import EVENT_SCHEMA
from millstream.gateway.attributes import PLAIN, Attributes
from millstream.gateway.ingest.gathering import Gathering
from millstream.gateway.ingest.routing import Routing, Texts, distinct
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub import topic_table
from millstream.gateway.pubsub.topic_table import TopicTable
from millstream.log import Router, StreamSpec

STREAMS = {
    spec.name: spec
    for spec in (
        StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device", partitions=3),
        StreamSpec("everything", ("#",), partitions=8),
        StreamSpec("single", ("site/#",), partitions=1),
        StreamSpec("many", ("site/#",), partitions=40_000),
        StreamSpec("nothing", ("never/published",)),
        StreamSpec("results", ()),
    )
}
TOPICS = [*(f"site/{site}/d{device}/telemetry" for site in "ab" for device in range(6)), "other", "site/a/x", "$hidden"]

attributes = st.just(PLAIN) | st.builds(
    Attributes,
    id=st.none() | st.text(max_size=3),
    type=st.none() | st.just("t"),
    key=st.none() | st.sampled_from(["k1", "k2"]),
    content_type=st.none() | st.just("text/plain"),
    headers=st.dictionaries(st.sampled_from("ab"), st.text(max_size=2)),
)
events = st.lists(st.tuples(st.sampled_from(TOPICS), st.binary(max_size=5), attributes), max_size=12)
Rows = list[dict[str, object]]


def gathered(table: TopicTable, batch: list[tuple[str, bytes, Attributes]]) -> Gathering:
    gathering = Gathering(table)
    for topic, payload, its in batch:
        gathering.extend(topic, [(payload, its)])
    return gathering


def plainly(
    batch: list[tuple[str, bytes, Attributes]], left_out: set[int], streams: Mapping[str, StreamSpec]
) -> dict[tuple[str, int], Rows]:
    router = Router(streams.values())
    found: dict[tuple[str, int], Rows] = {}
    for row, (topic, payload, its) in enumerate(batch):
        for stream, partition, key in router.route(topic, its.key) if row not in left_out else ():
            event: dict[str, object] = {"topic": topic, "key": key, "data": payload}
            event |= {"id": its.id, "type": its.type, "content_type": its.content_type}
            event |= {"headers": list(its.headers.items()) or None}
            found.setdefault((stream, partition), []).append(event)
    return found


def appended(sealed: Sealed) -> dict[tuple[str, int], Rows]:
    appends = sealed.appends()
    assert all(batch.schema.equals(EVENT_SCHEMA) and batch.num_rows for _, _, batch in appends)
    assert len({place[:2] for place in appends}) == len(appends)
    return {(stream, partition): batch.to_pylist() for stream, partition, batch in appends}


@given(st.lists(st.tuples(events, st.sets(st.integers(0, 11))), max_size=5))
def test_every_event_goes_where_the_router_says_in_order(
    batches: list[tuple[list[tuple[str, bytes, Attributes]], set[int]]],
) -> None:
    routing = Routing(STREAMS, TopicTable())
    for batch, left_out in batches:
        if not batch:
            continue
        sealed = Sealed(gathered(routing.table, batch), routing)
        sealed.duplicates = sorted(row for row in left_out if row < len(batch))
        assert appended(sealed) == plainly(batch, left_out, STREAMS)
        captured = [bool(Router(STREAMS.values()).route(topic)) for topic, _, _ in batch]
        assert sealed.is_captured.tolist() == captured
        assert sealed.captured == sum(captured)


def test_other_streams_give_other_routes() -> None:
    batch = [("site/a/d1/telemetry", b"1", PLAIN), ("other", b"2", PLAIN)]
    routing = Routing(STREAMS, TopicTable())
    sealed = Sealed(gathered(routing.table, batch), routing)
    fewer = {"telemetry": STREAMS["telemetry"]}
    sealed.route(Routing(fewer, routing.table))
    assert appended(sealed) == plainly(batch, set(), fewer)
    assert sealed.is_captured.tolist() == [True, False]


def test_many_more_topics_than_there_was_room_for() -> None:
    routing = Routing(STREAMS, TopicTable())
    for start in (0, 900, 5_000):
        batch = [(f"site/a/d{number}/telemetry", b"", PLAIN) for number in range(start, start + 1_100)]
        assert appended(Sealed(gathered(routing.table, batch), routing)) == plainly(batch, set(), STREAMS)


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), max_size=10), st.sampled_from([1, 100]))
def test_texts_by_number_while_more_and_more_come(batches: list[list[int]], times: int) -> None:
    texts = Texts([])
    for some in batches:
        numbers = some * times
        texts.texts += [f"text {number}" for number in range(len(texts.texts), max(numbers) + 1)]
        taken = texts.take(np.array(numbers, np.int32))
        assert taken.to_pylist() == [f"text {number}" for number in numbers]


@given(st.lists(st.integers(0, 50), min_size=1))
def test_distinct_numbers_and_their_places(numbers: list[int]) -> None:
    used, places = distinct(np.array(numbers, np.int32), 51)
    assert used.tolist() == sorted(set(numbers))
    assert used[places].tolist() == numbers


def test_a_table_of_topics_is_full_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_table, "_TOPICS", 3)
    monkeypatch.setattr(topic_table, "_BYTES", 1_000)
    many, large = TopicTable(), TopicTable()
    for topic in ("a", "b", "a"):
        many.number(topic)
        assert not many.is_full
    many.number("c")
    assert many.is_full
    large.number("x" * 1_000)
    assert large.is_full
