"""Spreading a batch over streams and partitions, against the plainest way to do it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from millstream.event import EVENT_SCHEMA, Event, to_columns
from millstream.log import Router, StreamSpec, Target, distribute, partition_of

STREAMS = (
    StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device", partitions=3),
    StreamSpec("everything", ("#",), partitions=8),
    StreamSpec("single", ("site/#",), partitions=1),
)
TOPICS = st.sampled_from(
    [*(f"site/{site}/d{device}/telemetry" for site in "ab" for device in range(5)), "other", "site/a/state", "$hidden"]
)
EVENTS = st.lists(
    st.builds(
        Event, topic=TOPICS, payload=st.binary(max_size=20), key=st.none() | st.just("mine"), id=st.none() | st.text()
    )
)


def plainly(events: list[Event], router: Router) -> dict[tuple[str, int], list[dict[str, object]]]:
    spread: dict[tuple[str, int], list[dict[str, object]]] = {}
    rows = to_columns(events).to_pylist()
    for event, row in zip(events, rows, strict=True):
        for target in router.route(event.topic, event.key):
            spread.setdefault((target.stream, target.partition), []).append({**row, "key": target.key})
    return spread


@given(EVENTS, st.sampled_from([0, 1_000]))
def test_every_event_goes_to_all_its_targets_in_order_with_the_key_it_has_there(events: list[Event], few: int) -> None:
    router = Router(STREAMS)
    with mock.patch("millstream.log.router._FEW", few):
        appends, together = router.split(to_columns(events))
    assert {(stream, partition): batch.to_pylist() for stream, partition, batch in appends} == plainly(events, router)
    assert [row for rows in together for row in rows.to_pylist()] == to_columns(events).to_pylist()
    assert len({append[:2] for append in appends}) == len(appends)
    assert all(batch.schema.equals(EVENT_SCHEMA) and batch.num_rows for _, _, batch in appends)


@given(TOPICS, st.lists(st.none() | st.text(max_size=9)))
def test_events_of_one_topic_go_where_each_of_them_goes(topic: str, keys: list[str | None]) -> None:
    router = Router(STREAMS)
    some = keys * 40  # of which many have the same length
    events = [Event(topic=topic, payload=b"%d" % row, key=key) for row, key in enumerate(some)]
    with mock.patch("millstream.log.router._FEW", 0):
        appends, together = router.split(to_columns(events))
    assert {(stream, partition): batch.to_pylist() for stream, partition, batch in appends} == plainly(events, router)
    assert [row for rows in together for row in rows.to_pylist()] == to_columns(events).to_pylist()


def test_a_code_without_targets_goes_nowhere() -> None:
    events = to_columns([Event(topic="t", payload=bytes([row])) for row in range(4)])
    appends, together = distribute(events, np.array([1, 0, 1, 0], np.int32), [(Target("s", 0, "k"),), ()])
    assert together == [events]
    (stream, partition, batch) = appends[0]
    assert (len(appends), stream, partition) == (1, "s", 0)
    assert batch.column("data") == pa.array([b"\x01", b"\x03"])


def test_events_that_stand_together_by_their_partitions_are_appended_as_they_are() -> None:
    router = Router([StreamSpec("out", ("out",), partitions=8), StreamSpec("all", ("#",), partitions=3)])
    made = sorted((f"k{number % 20}" for number in range(200)), key=lambda key: (partition_of(key, 8) + 3) % 8)
    events = to_columns([Event(topic="out", key=key, payload=key.encode()) for key in made])
    appends, together = router.split(events)
    theirs = [rows for stream, _, rows in appends if stream == "out"]
    assert len(theirs) > 1
    assert [id(rows) for rows in together] == [id(rows) for rows in theirs]
    assert {stream for stream, _, _ in appends} == {"out", "all"}


def test_many_events_are_together_as_they_are_appended_in_order_for_each_key() -> None:
    router = Router([StreamSpec("out", ("out",), partitions=8)])
    events = to_columns([Event(topic="out", key=f"k{n % 20}", payload=b"%d" % n) for n in range(10_000)])
    appends, together = router.split(events)
    assert [id(rows) for rows in together] == [id(rows) for _, _, rows in appends]
    shown = pa.Table.from_batches(together)
    for number in range(20):
        mine = shown.filter(pc.equal(shown["key"], f"k{number}"))
        assert mine["data"].to_pylist() == [b"%d" % n for n in range(number, 10_000, 20)]
    few = events.slice(0, 1_000)
    assert router.split(few).together == [few]


def test_many_events_without_keys_are_together_without_them() -> None:
    router = Router([StreamSpec("out", ("out/{key}",), key="key", partitions=8)])
    events = to_columns([Event(topic=f"out/{n % 20}", payload=b"%d" % n) for n in range(10_000)])
    assert router.split(events).together == [events]


def test_streams_with_the_same_partitions_and_keys_have_the_same_batches() -> None:
    router = Router([StreamSpec("out", ("out",), partitions=8), StreamSpec("all", ("#",), partitions=8)])
    events = to_columns([Event(topic="out", key=f"k{number % 7}", payload=b"{}") for number in range(50)])
    appends, _ = router.split(events)
    by_stream = {
        name: [(partition, id(rows)) for stream, partition, rows in appends if stream == name]
        for name in ("out", "all")
    }
    assert len(by_stream["out"]) > 1
    assert by_stream["out"] == by_stream["all"]
