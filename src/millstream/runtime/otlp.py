"""Metrics by OTLP: the readings that Prometheus scrapes, pushed to a collector from time to time.

The SDK's own instruments would be a second way of counting everything; its data model is enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from millstream.clock import Clock, Micros
from millstream.errors import LogError, SettingsError
from millstream.metrics import Distribution, Kind, Metric, Reading, Sources
from millstream.metrics.catalog import CATALOG
from millstream.metrics.reading import Labels, Value
from millstream.runtime.telemetry import at_most, missing, resource
from millstream.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import DataT, MetricsData

_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_INTERVAL_MILLISECONDS = "60000"
_PATIENCE_SECONDS = 30.0  # for a collector; the SDK gives up after 10 by itself
_NANOSECONDS = 1_000  # in a microsecond

_UNKNOWN: tuple[Any, Any] = (None, None)  # the smallest and the largest value, which OTLP need not be told

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def exporting(settings: Settings, sources: Sources, clock: Clock) -> AsyncIterator[None]:
    """Export readings while the block runs, where the settings ask for it. `SettingsError` if that is not possible."""
    if not settings.otel.metrics:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        raise missing("otel.metrics", error) from None
    task = asyncio.create_task(_export(sources, clock, OTLPMetricExporter().export, _interval_seconds()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _export(sources: Sources, clock: Clock, export: Callable[[MetricsData], Any], seconds: float) -> None:
    """For ever. A collector that does not answer, of which the SDK tells, or a log that cannot be read, is for the next
    time."""
    began = clock.now()
    while True:
        await clock.sleep(seconds)
        try:
            data = to_otlp(await sources.read(), began, clock.now())
            await at_most(_PATIENCE_SECONDS, partial(export, data))
        except LogError as error:
            _log.warning("metrics are not exported this time: %s", error)


def to_otlp(reading: Reading, began: Micros, now: Micros) -> MetricsData:
    """A reading in OTLP's data model."""
    from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    found = [
        OtlpMetric(metric.name, metric.help, _unit(metric), _data(metric, list(series.items()), began, now))
        for metric in CATALOG
        if (series := reading.of(metric))
    ]
    scope = ScopeMetrics(InstrumentationScope("millstream"), found, "")
    return MetricsData([ResourceMetrics(resource("server"), [scope], "")])


def _data(metric: Metric, series: Sequence[tuple[Labels, Value]], began: Micros, now: Micros) -> DataT:
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Histogram,
        HistogramDataPoint,
        NumberDataPoint,
        Sum,
    )

    start, time = began * _NANOSECONDS, now * _NANOSECONDS
    distributions: list[HistogramDataPoint] = []
    numbers: list[NumberDataPoint] = []
    for labels, value in series:
        its = dict(zip(metric.labels, labels, strict=True))
        if isinstance(value, Distribution):
            told = (value.count, value.total, value.counts, value.bounds)
            distributions.append(HistogramDataPoint(its, start, time, *told, *_UNKNOWN))
        else:
            numbers.append(NumberDataPoint(its, start, time, value))
    if metric.kind is Kind.HISTOGRAM:
        return Histogram(distributions, AggregationTemporality.CUMULATIVE)
    if metric.kind is Kind.COUNTER:
        return Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Gauge(numbers)


def _unit(metric: Metric) -> str:
    """In UCUM, from the name."""
    name = metric.name.removesuffix("_total")
    return "s" if name.endswith("_seconds") else "By" if name.endswith("_bytes") else "1"


def _interval_seconds() -> float:
    text = os.environ.get(_INTERVAL, _INTERVAL_MILLISECONDS)
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 0 < milliseconds < float("inf"):
        raise SettingsError(f"{_INTERVAL}={text!r} is no number of milliseconds, for example 60000")
    return milliseconds / 1_000
