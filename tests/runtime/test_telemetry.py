"""OpenTelemetry as an operator turns it on: real processes, the real exporters, a collector that keeps what comes."""

from __future__ import annotations

import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from tests.support.collector import Collector
from tests.support.millstream import Running, environment, millstream, read_stream, running, until
from tests.support.processes import loaded
from tests.support.spans import PARENT, SAMPLED, TRACE

from millstream.clock import SECOND
from millstream.metrics import Distribution, Reading, catalog
from millstream.runtime.otlp import to_otlp

PLANT = """
from opentelemetry import trace
from millstream import App, Event

app = App("plant")


@app.on("site/{site}/{device}/telemetry", group="first", into="hot")
def first(event: Event) -> object:
    with trace.get_tracer("plant").start_as_current_span("looked up"):
        return event.data


@app.on("hot", group="second")
async def second(event: Event) -> None: ...
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().serving() as collector:
        yield collector


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.py"
    path.write_text(PLANT)
    return path


def publish(run: Running, **headers: str) -> None:
    request = urllib.request.Request(f"http://{run.http}/topics/site/a/press-1/telemetry", b"91", headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def test_a_trace_goes_from_the_device_through_all_processes(tmp_path: Path, plant: Path, collector: Collector) -> None:
    told = {"MILLSTREAM_OTEL__TRACES": "true", "OTEL_BSP_SCHEDULE_DELAY": "100", **collector.environment}
    with running(tmp_path / "data", str(plant), cwd=None, **told) as run:
        publish(run, traceparent=SAMPLED)
        until(lambda: collector.named("process second"), what="the last span")
        publish(run)  # begins a trace of its own
        until(lambda: len(collector.named("process second")) == 2, what="the other trace")
        assert run.stop()[0] == 0
    chain = {name: first_of(collector, name) for name in ("receive", "commit", "process first", "looked up")}
    parents = [chain[name].parent_span_id for name in ("commit", "process first")]
    assert chain["receive"].parent_span_id.hex() == PARENT
    assert parents == [chain["receive"].span_id] * 2
    assert chain["looked up"].parent_span_id == chain["process first"].span_id
    second = first_of(collector, "process second")
    assert second.parent_span_id == chain["process first"].span_id
    assert {process for process, _ in collector.named("receive")} == {"server"}
    assert {process for process, _ in collector.named("process first")} == {"worker"}
    own = [span for _, span in collector.spans if span.trace_id.hex() != TRACE]
    assert {span.name for span in own} == {"receive", "commit", "process first", "looked up", "process second"}
    assert len({span.trace_id for span in own}) == 1
    hot = [event.headers["traceparent"] for event in read_stream(tmp_path / "data", "events") if event.topic == "hot"]
    assert hot[0] == f"00-{TRACE}-{chain['process first'].span_id.hex()}-01"


def first_of(collector: Collector, name: str) -> Span:
    (span,) = [span for _, span in collector.named(name) if span.trace_id.hex() == TRACE]
    return span


def test_metrics_go_to_the_collector_too(tmp_path: Path, collector: Collector) -> None:
    told = {"MILLSTREAM_OTEL__METRICS": "true", "OTEL_METRIC_EXPORT_INTERVAL": "100", **collector.environment}
    with running(tmp_path / "data", cwd=None, **told) as run:
        publish(run)

        def received() -> bool:
            found = [
                metric
                for request in collector.metrics
                for metric in request.resource_metrics[0].scope_metrics[0].metrics
                if metric.name == catalog.RECEIVED.name
            ]
            return any(point.as_int == 1 for metric in found for point in metric.sum.data_points)

        until(received, what="the event in a metric")
        assert run.stop()[0] == 0


def test_a_reading_in_the_data_model_of_otlp() -> None:
    reading = Reading()
    reading.set(catalog.LAG, 3, "g", "s")
    reading.set(catalog.PENDING_BYTES, 7)
    reading.set(catalog.SYNC_SECONDS, Distribution((0.5, 1.0), (1, 2, 3), 9.5))
    data = to_otlp(reading, 1 * SECOND, 2 * SECOND)
    assert encode_metrics(data).ByteSize()
    (of_resource,) = data.resource_metrics
    found = {metric.name: metric for metric in of_resource.scope_metrics[0].metrics}
    assert [metric.unit for metric in found.values()] == ["By", "s", "1"]
    lag = found[catalog.LAG.name].data.data_points[0]
    assert (lag.attributes, lag.time_unix_nano) == ({"group": "g", "stream": "s"}, 2_000_000_000)
    sync = found[catalog.SYNC_SECONDS.name].data.data_points[0]
    assert isinstance(sync, HistogramDataPoint)
    assert (sync.count, sync.sum, list(sync.bucket_counts)) == (6, 9.5, [1, 2, 3])


def test_a_collector_that_is_not_there_keeps_nobody_from_working_or_ending(tmp_path: Path, plant: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # which never answers
        told = {
            "MILLSTREAM_OTEL__TRACES": "true",
            "MILLSTREAM_OTEL__METRICS": "true",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}",
        }
        with running(tmp_path / "data", str(plant), cwd=None, **told) as run:
            for _ in range(3):
                publish(run)
            waiting, _ = taken.accept()  # an exporter is waiting for an answer
            assert run.stop()[0] == 0
            assert "not everything was finished" not in run.logs()
            waiting.close()


def test_nothing_of_it_is_imported_where_it_is_off() -> None:
    program = (
        "import millstream.runtime.server, millstream.runtime.worker, millstream.cli.serve\n"
        "from millstream.metrics.exposition import render"
    )
    assert loaded(program, "opentelemetry", "prometheus_client") == []


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('opentelemetry', 'opentelemetry.sdk'):\n    sys.modules[name] = None\n"
    )
    folders = (str(tmp_path), environment()["PYTHONPATH"])
    for setting in ("TRACES", "METRICS"):
        told = millstream(
            "run", "--data", str(tmp_path / "data"), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0",
            "--allow-anonymous", PYTHONPATH=os.pathsep.join(folders), **{f"MILLSTREAM_OTEL__{setting}": "true"},
        )  # fmt: skip
        assert told.returncode == 2
        assert f"setting 'otel.{setting.lower()}'" in told.stderr
        assert "pip install 'millstream[otel]'" in told.stderr


def test_a_wrong_interval_is_told(tmp_path: Path) -> None:
    told = millstream(
        "run", "--data", str(tmp_path / "data"), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0",
        "--allow-anonymous", MILLSTREAM_OTEL__METRICS="true", OTEL_METRIC_EXPORT_INTERVAL="often",
    )  # fmt: skip
    assert told.returncode == 2
    assert "OTEL_METRIC_EXPORT_INTERVAL='often'" in told.stderr
