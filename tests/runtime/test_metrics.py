"""`/metrics` of a real server with real workers: every metric of the catalog is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.support.millstream import Running, running, until

from millstream.metrics.catalog import CATALOG

PLANT = """
import time
from datetime import timedelta

from millstream import App, Event, Retry

app = App("plant")
telemetry = app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")


@app.on(telemetry, group="watch", retry=Retry(attempts=2, delay=timedelta(seconds=0.1)))
def watch(event: Event) -> None:
    if event.data["celsius"] == 404:
        raise LookupError("no such temperature")


@app.subscribe("site/+/+/telemetry")
async def look(event: Event) -> None:
    if event.data["celsius"] == 60:
        time.sleep(3600)


app.query(
    "means",
    "SELECT device, avg(celsius) AS mean FROM telemetry GROUP BY device, TumblingWindow(second, 10)",
)
"""


def scrape(run: Running, accept: str = "application/openmetrics-text; version=1.0.0") -> str:
    request = urllib.request.Request(f"http://{run.http}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def families(run: Running) -> dict[str, Family]:
    """By the name of their samples' metric."""
    found: Iterable[Family] = text_string_to_metric_families(scrape(run))  # type: ignore[no-untyped-call]
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in found if family.samples}


def value(run: Running, name: str, **labels: str) -> float | None:
    """The sum of the samples with these labels among theirs; None where there are none: a worker that is too busy to
    answer in time is missing."""
    family = families(run).get(name)
    values = [sample.value for sample in family.samples if labels.items() <= sample.labels.items()] if family else []
    return sum(values) if values else None


def states(run: Running) -> dict[str, float]:
    """How many workers answer, and how many do not."""
    return {sample.labels["state"]: sample.value for sample in families(run)["millstream_workers"].samples}


def processes(run: Running) -> set[str]:
    """Those that tell what they use."""
    return {sample.labels["process"] for sample in families(run)["process_cpu_seconds_total"].samples}


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    path = tmp_path / "plant.py"
    path.write_text(PLANT)
    return path


def test_every_metric_is_there_and_workers_come_and_go(tmp_path: Path, plant: Path) -> None:
    with running(tmp_path / "data", str(plant), "--workers", "2") as run:
        run.publish("site/a/press-1/telemetry", '{"celsius": 20}', '{"celsius": 404}', '{"celsius": 30}')
        by_reason = ("rejected_events", "ended_connections", "refused_requests")
        unseen = {f"millstream_gateway_{each}_total" for each in by_reason}
        wanted = {metric.name for metric in CATALOG} - unseen  # by reasons that did not come
        until(lambda: wanted <= set(families(run)), what=f"{wanted - set(families(run))}")
        until(lambda: value(run, "millstream_workers", state="answering") == 2, what="an answer of both workers")
        assert value(run, "millstream_stream_events", stream="telemetry") == 3
        until(lambda: value(run, "millstream_group_lag_events", stream="telemetry") == 0, what="no lag")
        letters = {"group": "watch", "count": "dead-lettered"}
        until(lambda: value(run, "millstream_group_counts_total", **letters), what="a dead letter")
        until(lambda: processes(run) == {"supervisor", "server", "worker 1", "worker 2"}, what="all processes")
        if (promtool := shutil.which("promtool")) is not None:
            plain = scrape(run, "text/plain")
            checked = subprocess.run([promtool, "check", "metrics"], input=plain, capture_output=True, text=True)
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

        run.publish("site/a/press-1/telemetry", '{"celsius": 60}')  # blocks the loop of the worker that gets it
        until(lambda: states(run) == {"answering": 1, "silent": 1}, what="a silent worker")
        for name, pid in run.children().items():
            if name != "server":
                os.kill(pid, signal.SIGKILL)
        until(lambda: value(run, "millstream_workers", state="answering") == 2, what="new workers")
