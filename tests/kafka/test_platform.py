"""The whole platform on Kafka, beside the same on the embedded log: same input, same output."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.kafka.load import APP, another_worker, on_kafka, records, wait_for
from tests.support.millstream import Running, millstream, read_stream, running

pytestmark = pytest.mark.kafka

DEVICES = [f"press-{number}" for number in range(8)]
SECONDS = range(120)
LAST_TOGETHER = "2026-01-01T00:01:20Z"  # the same, and the grace
LAST_WINDOW = "2026-01-01T00:01:50Z"  # the events end after it, so that it is closed

STREAMS = {"alerts": 8, "together": 8, "doors": 1, "followed": 8, "meanwhile": 8}  # with their partitions


def publish(run: Running, seconds: range) -> None:
    """A reading a second and device, and a door now and then."""
    for number, device in enumerate(DEVICES):
        readings = [
            {
                "ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z",
                "n": second,
                "celsius": 70 + 4 * number + second % 7,
            }
            for second in seconds
        ]
        run.publish(f"site/a/{device}/telemetry", *(json.dumps(reading) for reading in readings))
        run.publish(f"site/a/{device}/door", *(f'{{"n":{second}}}' for second in seconds if second % 10 == 0))


Outputs = tuple[list[str], ...]


def outputs(alerts: list[bytes], together: list[bytes], *others: list[bytes]) -> Outputs:
    """What came out, as far as it is complete, in an order that can be compared."""
    windows = [
        [text for text in map(bytes.decode, some) if json.loads(text)["window_end"] <= last]
        for some, last in ((alerts, LAST_WINDOW), (together, LAST_TOGETHER))
    ]
    return tuple(map(sorted, (*windows, *(map(bytes.decode, some) for some in others))))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    """What the embedded log gives."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    with running(folder, APP) as run:
        for begin in SECONDS[::30]:
            publish(run, SECONDS[begin : begin + 30])
        wait_for(lambda: len(read_stream(folder, "doors")) >= 12 * len(DEVICES))
        wait_for(lambda: len(read_stream(folder, "followed")) >= 119 * len(DEVICES))
        wait_for(lambda: len(read_stream(folder, "meanwhile")) >= 12 * len(DEVICES))
        wait_for(lambda: any(LAST_WINDOW in event.payload.decode() for event in read_stream(folder, "alerts")))
        wait_for(lambda: any(LAST_TOGETHER in event.payload.decode() for event in read_stream(folder, "together")))
        assert run.stop()[0] == 0
    return outputs(*([event.payload for event in read_stream(folder, name)] for name in STREAMS))


def test_the_same_comes_out_although_workers_are_killed_frozen_and_added(
    kafka_servers: str, tmp_path: Path, expected: Outputs
) -> None:
    with on_kafka(tmp_path / "data", kafka_servers) as (run, variables):
        prefix = variables["MILLSTREAM_LOG__KAFKA__PREFIX"]

        def found() -> Outputs:
            return outputs(*(records(kafka_servers, f"{prefix}{name}", n) for name, n in STREAMS.items()))

        publish(run, SECONDS[:30])
        with another_worker(run, APP, variables) as added:
            publish(run, SECONDS[30:60])
            (worker,) = (pid for name, pid in run.children().items() if name.startswith("worker"))
            os.kill(worker, signal.SIGKILL)
            publish(run, SECONDS[60:90])
            added.send_signal(signal.SIGSTOP)
            publish(run, SECONDS[90:])
            wait_for(lambda: found() == expected)
            added.send_signal(signal.SIGCONT)
            groups = json.loads(millstream("groups", "--json", "--data", str(tmp_path / "data"), **variables).stdout)
            assert {group["group"] for group in groups} >= {"overheating"}
            tail = millstream("tail", "doors", "--data", str(tmp_path / "data"), **variables)
            assert len(tail.stdout.splitlines()) == 12 * len(DEVICES), tail.stderr
            added.terminate()
            added.wait(60)
        assert found() == expected
        assert run.stop()[0] == 0


def test_brokers_that_do_not_answer_are_told(tmp_path: Path) -> None:
    ended = millstream("streams", "--data", str(tmp_path), MILLSTREAM_LOG__URL="kafka://127.0.0.1:1")
    assert ended.returncode == 1
    assert "no broker answers at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
