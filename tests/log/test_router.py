"""From a topic to streams, partitions and keys."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import AppError
from millstream.log import Router, StreamSpec, Target, partition_of, router
from millstream.log.partition import partitions_of
from millstream.topic import filter_matches

MURMUR2 = {  # Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
}


@pytest.mark.parametrize(("key", "murmur2"), MURMUR2.items())
def test_a_key_has_the_partition_that_kafka_gives_it(key: str, murmur2: int) -> None:
    positive = murmur2 & 0x7FFFFFFF
    assert partition_of(key, 1 << 31) == positive
    for partitions in (1, 3, 8, 100):
        assert partition_of(key, partitions) == positive % partitions


@given(st.text(), st.integers(1, 1000))
def test_every_key_has_a_partition(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


@given(st.lists(st.text(), max_size=12), st.integers(1, 1000), st.integers(0, 3))
def test_many_keys_have_the_partitions_that_each_has(some: list[str], partitions: int, skipped: int) -> None:
    keys = [*some, *(f"{number:0{length}}" for length in range(1, 10) for number in range(40)), *some * 40]
    found = partitions_of(pa.array(keys, pa.string()).slice(skipped), partitions)
    assert found.tolist() == [partition_of(key, partitions) for key in keys[skipped:]]


def test_no_keys_have_no_partitions() -> None:
    assert partitions_of(pa.array([], pa.string()), 8).tolist() == []
    assert partitions_of(pa.array([""] * 50, pa.string()), 8).tolist() == [partition_of("", 8)] * 50


def test_keys_spread_over_the_partitions() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[partition_of(f"device-{number}", 8)] += 1
    assert min(counts) > 800


STREAMS = (
    StreamSpec("telemetry", ("site/{site}/{device}/telemetry", "old/{device}/#"), key="device", partitions=16),
    StreamSpec("site", ("site/#", "site/+/x/#"), partitions=4),
    StreamSpec("unrouted", ()),
)


def test_an_event_goes_to_every_stream_that_captures_it_once() -> None:
    routes = Router(STREAMS)
    topic = "site/north/x/telemetry"
    assert set(routes.route(topic)) == {
        Target("telemetry", partition_of("x", 16), "x"),
        Target("site", partition_of(topic, 4), topic),
    }
    assert routes.route("old/x/y/z") == (Target("telemetry", partition_of("x", 16), "x"),)
    assert routes.route("somewhere/else") == ()
    assert set(routes.streams) == {"telemetry", "site", "unrouted"}


def test_the_key_is_the_named_level_else_the_events_own_else_the_topic() -> None:
    routes = Router(STREAMS)
    targets = {target.stream: target.key for target in routes.route("site/north/x/telemetry", "mine")}
    assert targets == {"telemetry": "x", "site": "mine"}
    (target,) = routes.route("site/a", "")
    assert target.key == ""


def test_a_stream_whose_filters_lack_its_key_is_refused() -> None:
    with pytest.raises(AppError, match=r"stream 'a' has the key 'device', but its filter 'x/\{site\}' has no level"):
        Router([StreamSpec("a", ("y/{device}", "x/{site}"), key="device")])


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router, "_CACHE", 10)
    catch_all = Router([StreamSpec("a", ("#",), partitions=2)])
    for number in range(25):
        catch_all.route(f"t/{number}")
    assert len(catch_all._cache) <= 10
    assert catch_all.route("t/1") == (Target("a", partition_of("t/1", 2), "t/1"),)


levels = st.sampled_from(["a", "b", "c", ""])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join)
filters = st.tuples(st.lists(levels | st.just("+"), min_size=1, max_size=4), st.sampled_from(["", "/#"])).map(
    lambda pair: "/".join(pair[0]) + pair[1]
)


@given(st.lists(st.lists(filters.filter(bool), min_size=1, max_size=3), max_size=5), topics.filter(bool))
def test_a_stream_captures_what_any_of_its_filters_matches(streams: list[list[str]], topic: str) -> None:
    specs = [StreamSpec(f"s{number}", tuple(texts)) for number, texts in enumerate(streams)]
    captured = {spec.name for spec in specs if any(filter_matches(text, topic) for text in spec.topics)}
    routed = [target.stream for target in Router(specs).route(topic)]
    assert sorted(routed) == sorted(captured)
