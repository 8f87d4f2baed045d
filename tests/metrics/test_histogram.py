"""Histograms and readings: no value is lost, and a series has one value."""

from __future__ import annotations

from bisect import bisect_left

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from millstream.metrics import Distribution, Histogram, Kind, Metric, Reading, Sources, catalog

BOUNDS = (1.0, 4.0, 16.0)


@given(some.lists(some.tuples(some.floats(0, 100), some.integers(1, 5))))
def test_every_value_is_counted_up_to_the_bound_that_it_does_not_exceed(values: list[tuple[float, int]]) -> None:
    histogram = Histogram(BOUNDS)
    for value, times in values:
        histogram.observe(value, times)
    found = histogram.distribution
    every = [value for value, times in values for _ in range(times)]
    assert found.count == len(every)
    for number, bound in enumerate(BOUNDS):
        assert sum(found.counts[: number + 1]) == sum(value <= bound for value in every)
        assert bisect_left(BOUNDS, bound) == number  # a bound is within its own bucket
    assert found.total == pytest.approx(sum(every))


def test_a_series_has_one_value_and_its_metrics_labels() -> None:
    reading, metric = Reading(), Metric("a_total", Kind.COUNTER, "A.", ("group",))
    reading.set(metric, 1, "x")
    reading.set(metric, 2, "x")
    reading.set(metric, 3, "y")
    assert reading.of(metric) == {("x",): 2, ("y",): 3}
    with pytest.raises(ValueError, match="a_total has the labels"):
        reading.set(metric, 1)


def test_a_reading_arrives_as_it_was_and_replaces_what_it_tells_anew() -> None:
    sent, arrived = Reading(), Reading()
    sent.set(catalog.ERRORS, 7, "worker", "g")
    sent.set(catalog.CALL_SECONDS, Distribution(BOUNDS, (1, 0, 2, 0), 12.5), "worker", "g")
    arrived.set(catalog.ERRORS, 1, "worker", "g")
    arrived.set(catalog.ERRORS, 2, "worker", "h")
    arrived.add_encoded(sent.encode())
    assert arrived.of(catalog.ERRORS) == {("worker", "g"): 7, ("worker", "h"): 2}
    assert arrived.of(catalog.CALL_SECONDS) == sent.of(catalog.CALL_SECONDS)
    with pytest.raises(msgspec.MsgspecError):
        arrived.add_encoded(b"\xc1")


async def test_all_sources_add_to_one_reading() -> None:
    sources = Sources()

    async def one(reading: Reading) -> None:
        reading.set(catalog.READY, 1)

    async def other(reading: Reading) -> None:
        reading.set(catalog.CONNECTIONS, 2)

    sources.add(one)
    sources.add(other)
    reading = await sources.read()
    assert (reading.of(catalog.READY), reading.of(catalog.CONNECTIONS)) == ({(): 1}, {(): 2})
