"""A reading as Prometheus reads it: its text format, or OpenMetrics for who accepts that."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from millstream.metrics.catalog import CATALOG
from millstream.metrics.histogram import Distribution
from millstream.metrics.metric import Kind, Metric
from millstream.metrics.reading import Labels, Reading, Value

if TYPE_CHECKING:
    from prometheus_client import Metric as Family


def render(reading: Reading, accept: str) -> tuple[bytes, str]:
    """The text and its content type, for what an `Accept` header says. For a thread: it takes some milliseconds."""
    from prometheus_client.exposition import choose_encoder  # only where somebody scrapes

    encode, content_type = choose_encoder(accept)
    return encode(_Families(reading)), content_type


class _Families:
    """What the encoders call a collector."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Family]:
        """The metrics that have values, in the order of the catalog."""
        for metric in CATALOG:
            if series := self._reading.of(metric):
                yield _family(metric, sorted(series.items()))


def _family(metric: Metric, series: list[tuple[Labels, Value]]) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in series:
            if isinstance(value, Distribution):
                histogram.add_metric(labels, _buckets(value), value.total)
        return histogram
    simple: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is Kind.COUNTER:
        simple = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    else:
        simple = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in series:
        if not isinstance(value, Distribution):
            simple.add_metric(labels, value)
    return simple


def _buckets(value: Distribution) -> list[tuple[str, float]]:
    """Prometheus' buckets are cumulative, and end with everything."""
    from prometheus_client.utils import floatToGoString

    bounds = [*map(floatToGoString, value.bounds), "+Inf"]
    return list(zip(bounds, accumulate(map(float, value.counts)), strict=True))
