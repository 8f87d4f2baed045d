"""What queries and handlers can do gives the same on Kafka as on the embedded log, although a worker is killed and
another one comes."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.kafka.features import OUTPUTS, app
from tests.kafka.load import all_messages, another_worker, messages, on_kafka, text, wait_for
from tests.support.millstream import Running, millstream

from millstream.clock import SECOND, to_text
from millstream.gateway.attributes import Attributes
from millstream.log.kafka.names import Names

pytestmark = pytest.mark.kafka

APP = str(Path(__file__).with_name("features.py"))
DEVICES = [f"oven-{number}" for number in range(8)]
"""Each partition has some of them: the windows of groups by another key wait for all of them."""
HOUR = "2026-01-01T01:00:00Z"
"""All windows that are looked at have ended by then; what keeps them from being open comes later."""

LATER = datetime(2026, 6, 1, tzinfo=UTC)
"""When events come: their times are not ahead of it."""

Publish = tuple[str, list[str]]
"""A topic, and what is published there."""


def reading(number: int, second: int, **more: object) -> str:
    return json.dumps(
        {
            "ts": f"2026-01-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z",
            "n": second,
            "celsius": 70 + number + second % 7,
            "state": "hot" if second // 7 % 2 else "cold",
            "cells": [{"volts": 3 + second % 5 / 10 + cell} for cell in range(second % 3)],
            **more,
        }
    )


def telemetry(number: int) -> str:
    return f"site/a/{'AB'[number % 2]}/{DEVICES[number]}/telemetry"


def spoken(seconds: range) -> list[Publish]:
    """Readings with pauses, some of them out of order, and orders now and then; one is late, and one is no reading."""
    found: list[Publish] = []
    for number, device in enumerate(DEVICES):
        at = sorted((s for s in seconds if s % 20 not in range(8, 13)), key=lambda s: s + 3 * (s % 10 == 5))
        readings = [reading(number, second) for second in at]
        if 100 in seconds:
            readings.append(reading(number, 0, ts="2025-12-31T23:55:00Z"))
            readings += ['"no reading"'] * (number == 3)
        found.append((telemetry(number), readings))
        orders = [json.dumps({"number": second}) for second in at if second % 5 == 0]
        found.append((f"site/a/{'AB'[number % 2]}/{device}/order", orders))
    return found


CHUNKS = [spoken(range(begin, begin + 30)) for begin in (1, 31, 61, 91)]
ENDS: list[Publish] = [
    (telemetry(number), [reading(number, 9_000), reading(number, 18_000, state="end")]) for number in range(8)
]

Outputs = dict[str, Counter[tuple[str | None, str]]]


def outputs(events: dict[str, list[tuple[str | None, str]]]) -> Outputs:
    """How often each key and payload came out on each stream, as far as windows have closed."""
    return {
        name: Counter(
            (key, value)
            for key, value in some
            if not value.startswith("{") or json.loads(value).get("at", HOUR) <= HOUR
        )
        for name, some in events.items()
    }


@pytest.fixture
async def expected() -> Outputs:
    """What the embedded log gives, in memory."""
    async with app.test(raise_errors=False, start=LATER) as plant:
        for chunk in (*CHUNKS, ENDS):
            for topic, payloads in chunk:
                await plant._rig.gateway.publish(topic, [(payload.encode(), Attributes()) for payload in payloads])
            await plant.settle()
        await plant.advance("30s")
        return outputs({name: [(one.key, one.payload.decode()) for one in plant.stream(name)] for name in OUTPUTS})


def publish(run: Running, chunk: list[Publish]) -> None:
    for topic, payloads in chunk:
        run.publish(topic, *payloads)


def early_results(servers: str, prefix: str, query: str) -> Counter[tuple[str, ...]]:
    """The early results of the hour: key, time of the mark, payload."""
    found = Counter[tuple[str, ...]]()
    for message in messages(servers, f"{prefix}{query}.early", 8):
        headers = dict(message.headers() or [])
        key, mark, value = message.key(), headers["early-at"], message.value()
        if json.loads(value or b"")["at"] == HOUR:
            found[text(key), text(mark), text(value)] += 1
    return found


Reading = tuple[int, int, str, dict[str, object]]
"""The mark behind its arrival, its partition and device, and what it says."""


def early_of_devices(readings: list[Reading]) -> Counter[tuple[str, ...]]:
    """At each second, for each device of which something has come since the one before, what has come so far; up to the
    one in which its window closed."""
    found = Counter[tuple[str, ...]]()
    for device in DEVICES:
        its = [one for one in readings if one[2] == device]
        closed = min((mark for mark, *_, said in its if str(said["ts"]) > HOUR), default=1 << 62)
        for at in {mark for mark, *_ in its if mark < closed}:
            found[device, to_text(at), so_far("device", device, its, at)] += 1
    return found


def early_of_lines(readings: list[Reading]) -> Counter[tuple[str, ...]]:
    """The same for each line, of which what is late is no part; up to the second in which the last partition closed the
    window."""
    found = Counter[tuple[str, ...]]()
    passed: dict[int, int] = {}
    for mark, partition, _, said in readings:
        first = passed.get(partition, 1 << 62)
        passed[partition] = min(first, mark) if str(said["ts"]) > HOUR else first
    for number, line in enumerate("AB"):
        its = [one for one in readings if DEVICES.index(one[2]) % 2 == number and str(one[3]["ts"]) >= "2026"]
        for at in {mark for mark, *_ in its if mark < max(passed.values())}:
            found[line, to_text(at), so_far("line", line, [one for one in its if str(one[3]["ts"]) <= HOUR], at)] += 1
    return found


def so_far(by: str, key: str, readings: list[Reading], at: int) -> str:
    """What a window of them tells at a mark."""
    n = [int(str(said["n"])) for mark, *_, said in readings if mark <= at and str(said["ts"]) >= "2026"]
    return json.dumps({by: key, "n": len(n), "total": float(sum(n)), "at": HOUR}, separators=(",", ":"))


def early_by_definition(servers: str, prefix: str) -> dict[str, Counter[tuple[str, ...]]]:
    """What each query with early results tells."""
    readings: list[Reading] = []
    for message in messages(servers, f"{prefix}telemetry", 4):
        value = message.value() or b""
        if value.startswith(b"{"):
            mark = (message.timestamp()[1] * 1000 // SECOND + 1) * SECOND
            readings.append((mark, message.partition() or 0, text(message.key()), json.loads(value)))
    return {"hourly": early_of_devices(readings), "hourly-by-line": early_of_lines(readings)}


def test_the_same_comes_out_although_a_worker_is_killed_and_one_comes(
    kafka_servers: str, tmp_path: Path, expected: Outputs
) -> None:
    assert all(expected.values()), [name for name, some in expected.items() if not some]
    with on_kafka(tmp_path / "data", kafka_servers, APP) as (run, variables):
        prefix = variables["MILLSTREAM_LOG__KAFKA__PREFIX"]
        partitions = {name: spec.partitions for name, spec in app.streams.items()} | {"tumbling.late": 8}
        topics = {name: Names(prefix).topic(name) for name in OUTPUTS}

        def found() -> Outputs:
            some = all_messages(kafka_servers, {topic: partitions[name] for name, topic in topics.items()})
            return outputs(
                {name: [(text(one.key()), text(one.value())) for one in some[topic]] for name, topic in topics.items()}
            )

        publish(run, CHUNKS[0])
        (worker,) = (pid for name, pid in run.children().items() if name.startswith("worker"))
        os.kill(worker, signal.SIGKILL)
        publish(run, CHUNKS[1])
        with another_worker(run, APP, variables) as added:
            publish(run, CHUNKS[2])
            publish(run, CHUNKS[3])
            wait_for(lambda: all(early_results(kafka_servers, prefix, name) for name in ("hourly", "hourly-by-line")))
            publish(run, ENDS)
            wait_for(lambda: found() == expected)
            added.terminate()
            added.wait(60)
        assert found() == expected
        early = early_by_definition(kafka_servers, prefix)
        wait_for(lambda: {name: early_results(kafka_servers, prefix, name) for name in early} == early)
        ledger = millstream("ledger", "--json", "--data", str(tmp_path / "data"), **variables)
        assert json.loads(ledger.stdout)["balanced"], ledger.stdout + ledger.stderr
        assert run.stop()[0] == 0
