"""A worker whose queries keep far more rows than it may have in memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx
from tests.support.millstream import Running, millstream, read_stream, running, until

PLANT = """
from millstream import App

app = App("plant")
app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
app.query("days", '''
    SELECT device, len(list(note::VARCHAR)) AS n, md5(array_to_string(list(note::VARCHAR), ' ')) AS digest
    FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(day, 1)''', into="days")
"""
MIB = 1 << 20
DEVICES = 40
ROWS = 60_000
BYTES = 1_280  # of a note
STATE = ROWS * BYTES


def test_worker_stays_small_while_its_state_does_not_and_its_results_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "plant.py").write_text(PLANT)
    small = run_a_day(tmp_path, "small", state_memory="4MiB")
    large = run_a_day(tmp_path, "large", state_memory="1GiB")
    assert small["results"] == large["results"]
    assert len(small["results"]) == DEVICES
    assert sum(result["n"] for result in small["results"]) == ROWS
    assert small["memory"] < 24 * MIB
    assert small["disk"] > STATE - 24 * MIB
    assert (large["disk"], large["memory"] > STATE) == (0, True)
    assert small["resident"] < large["resident"] - STATE // 3


def run_a_day(folder: Path, name: str, *, state_memory: str) -> dict[str, Any]:
    """What the worker takes that has restored what the one before it left, which was killed."""
    with running(
        folder / name, str(folder / "plant.py"), "--workers", "1", MILLSTREAM_STATE_MEMORY=state_memory
    ) as run:
        for first in range(0, ROWS, 600):
            publish(run, range(first + 1, first + 601))
        until(lambda: sum(held(run)) > STATE * 98 // 100 and lag(run) == 0, what="all rows in the state")
        killed = run.children()["worker"]
        os.kill(killed, signal.SIGKILL)
        until(lambda: run.children().get("worker", killed) != killed, what="a new worker")
        until(lambda: sum(held(run)) > STATE * 98 // 100, what="the restored state")
        memory, disk = held(run)
        resident = resident_bytes(run.children()["worker"])
        status = millstream("status", "--json", "--data", str(run.folder)).stdout
        told = {group["group"]: group["state_bytes"] for group in json.loads(status)["groups"]}
        assert sum(told["days"].values()) > STATE * 98 // 100
        assert re.search(r"days .*memory \d+\.\d MiB", millstream("status", "--data", str(run.folder)).stdout)
        for device in range(DEVICES):
            run.publish(f"site/a/press-{device}/telemetry", '{"ts": "2025-01-02T00:00:01Z", "note": "next"}')
        until(lambda: len(read_stream(run.folder, "days")) == DEVICES, what="the results")
        until(lambda: sum(held(run)) < STATE // 8, what="little more than the blocks with rows of the next day")
        results = sorted((event.data for event in read_stream(run.folder, "days")), key=lambda data: data["device"])
    return {"memory": memory, "disk": disk, "resident": resident, "results": results}


def publish(run: Running, numbers: range) -> None:
    """Readings of a device: the topics of its turn."""
    texts = (hashlib.shake_128(str(number).encode()).hexdigest(BYTES // 2) for number in numbers)
    readings = [
        f'{{"ts": "2025-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z", "note": "{text}"}}'
        for number, text in zip(numbers, texts, strict=True)
    ]
    run.publish(f"site/a/press-{numbers.stop // 600 % DEVICES}/telemetry", *readings)


def metrics(run: Running) -> str:
    return httpx.get(f"http://{run.http}/metrics", timeout=60).text


def held(run: Running) -> tuple[int, int]:
    """The rows in memory, and on disk, in bytes."""
    found = re.findall(r'^millstream_query_state_bytes\{.*place="(\w+)".*} (\S+)$', metrics(run), re.MULTILINE)
    places = {place: int(float(value)) for place, value in found}
    return places.get("memory", 0), places.get("disk", 0)


def lag(run: Running) -> int:
    found = re.findall(r'^millstream_group_lag_events\{.*group="days".*\} (\S+)$', metrics(run), re.MULTILINE)
    return sum(int(float(value)) for value in found) if found else 1


def resident_bytes(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return 1024 * int(fields["VmRSS"].split()[0])
