"""What Prometheus reads: both formats, held to the parsers of the official client."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as some
from prometheus_client import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from millstream.metrics import Histogram, Kind, Reading, catalog
from millstream.metrics.exposition import render
from millstream.metrics.process import process_source

OPENMETRICS = "application/openmetrics-text; version=1.0.0, text/plain;version=0.0.4;q=0.5, */*;q=0.1"


def parsed(reading: Reading, accept: str) -> dict[str, Family]:
    text, content_type = render(reading, accept)
    is_openmetrics = "openmetrics" in accept
    assert content_type.startswith("application/openmetrics-text" if is_openmetrics else "text/plain")
    parse = openmetrics.text_string_to_metric_families if is_openmetrics else text_string_to_metric_families
    families: Iterable[Family] = parse(text.decode())
    return {family.name: family for family in families}


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", OPENMETRICS])
def test_a_counter_a_gauge_and_a_histogram(accept: str) -> None:
    reading, histogram = Reading(), Histogram((0.5, 1.0))
    for value in (0.25, 0.75, 3.0):
        histogram.observe(value)
    reading.set(catalog.RECEIVED, 7)
    reading.set(catalog.LAG, 3, "g", "s")
    reading.set(catalog.SYNC_SECONDS, histogram.distribution)
    families = parsed(reading, accept)
    assert set(families) == {
        "millstream_gateway_received_events",
        "millstream_group_lag_events",
        "millstream_log_commit_seconds",
    }
    received = families["millstream_gateway_received_events"]
    assert (received.type, received.samples[0].name, received.samples[0].value) == ("counter", catalog.RECEIVED.name, 7)
    (lag,) = families["millstream_group_lag_events"].samples
    assert (lag.labels, lag.value) == ({"group": "g", "stream": "s"}, 3)
    buckets = {
        sample.labels["le"]: sample.value
        for sample in families["millstream_log_commit_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert {float(bound): n for bound, n in buckets.items()} == {0.5: 1, 1.0: 2, math.inf: 3}
    told = {
        sample.name.rpartition("_")[2]: sample.value for sample in families["millstream_log_commit_seconds"].samples
    }
    assert (told["count"], told["sum"]) == (3, 4.0)


@given(some.text(some.characters(exclude_categories=["Cs"])), some.sampled_from(["", OPENMETRICS]))
def test_any_name_of_a_group_comes_out_as_it_was(name: str, accept: str) -> None:
    reading = Reading()
    reading.set(catalog.MEMBERS, 1, name)
    text, _ = render(reading, accept)
    escaped = name.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    assert f'millstream_group_members{{group="{escaped}"}} 1.0' in text.decode()


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [metric.name for metric in catalog.CATALOG]
    assert len(set(names)) == len(names)
    for metric in catalog.CATALOG:
        assert metric.name.startswith(("millstream_", "process_"))
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        if metric.kind is Kind.HISTOGRAM:
            assert metric.name.endswith(("_seconds", "_events"))


async def test_a_process_measures_itself() -> None:
    reading = Reading()
    await process_source("me")(reading)
    values = {metric.name: reading.of(metric)[("me",)] for metric in catalog.PROCESS}
    assert all(isinstance(value, float | int) and value > 0 for value in values.values()), values
