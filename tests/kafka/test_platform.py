"""The whole platform on Kafka, beside the same on the embedded log: same input, same output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from tests.support.kafka_logs import fresh_prefix
from tests.support.millstream import Running, environment, millstream, read_stream, running

pytestmark = pytest.mark.kafka

APP = str(Path(__file__).with_name("plant.py"))
DEVICES = [f"press-{number}" for number in range(8)]
SECONDS = range(120)
LAST_WINDOW = "2026-01-01T00:01:50Z"  # the events end after it, so that it is closed


def publish(run: Running, seconds: range) -> None:
    """A reading a second and device, and a door now and then."""
    for number, device in enumerate(DEVICES):
        readings = [
            {"ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "celsius": 70 + 4 * number + second % 7}
            for second in seconds
        ]
        run.publish(f"site/a/{device}/telemetry", *(json.dumps(reading) for reading in readings))
        run.publish(f"site/a/{device}/door", *(f'"{device} {second}"' for second in seconds if second % 10 == 0))


def outputs(alerts: list[bytes], doors: list[bytes]) -> tuple[list[str], list[str]]:
    """What came out, as far as it is complete, in an order that can be compared."""
    closed = [text for text in map(bytes.decode, alerts) if json.loads(text)["window_end"] <= LAST_WINDOW]
    return sorted(closed), sorted(map(bytes.decode, doors))


def records(servers: str, topic: str, partitions: int) -> list[bytes]:
    """What any Kafka client reads of a topic, up to its end."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "somebody",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    values: list[bytes] = []
    ended: set[int] = set()
    while len(ended) < partitions:
        for message in consumer.consume(500, 0.2):
            error = message.error()
            if error is None:
                values.append(message.value() or b"")
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition() or 0)
    consumer.close()
    return values


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What the embedded log gives."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    with running(folder, APP) as run:
        publish(run, SECONDS)
        wait_for(lambda: len(read_stream(folder, "doors")) >= 12 * len(DEVICES))
        wait_for(lambda: any(LAST_WINDOW in event.payload.decode() for event in read_stream(folder, "alerts")))
        assert run.stop()[0] == 0
    alerts, doors = ([event.payload for event in read_stream(folder, name)] for name in ("alerts", "doors"))
    return outputs(alerts, doors)


@contextmanager
def on_kafka(folder: Path, servers: str) -> Iterator[tuple[Running, dict[str, str]]]:
    """The same application on Kafka, and the settings in the environment."""
    variables = {
        "MILLSTREAM_LOG__URL": f"kafka://{servers}",
        "MILLSTREAM_LOG__KAFKA__PREFIX": fresh_prefix(),
        "MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S",
    }
    with running(folder, APP, cwd=None, **variables) as run:
        yield run, variables


def wait_for(condition: Callable[[], object]) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_same_comes_out_although_workers_are_killed_frozen_and_added(
    kafka_servers: str, tmp_path: Path, expected: tuple[list[str], list[str]]
) -> None:
    with on_kafka(tmp_path / "data", kafka_servers) as (run, variables):
        prefix = variables["MILLSTREAM_LOG__KAFKA__PREFIX"]

        def found() -> tuple[list[str], list[str]]:
            return outputs(records(kafka_servers, f"{prefix}alerts", 8), records(kafka_servers, f"{prefix}doors", 1))

        command = [sys.executable, "-m", "millstream", "work", APP, "--data", str(tmp_path / "data")]
        publish(run, SECONDS[:30])
        with subprocess.Popen(command, env={**environment(), **variables}, stdout=subprocess.DEVNULL) as added:
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
            assert len(tail.stdout.splitlines()) == len(expected[1]), tail.stderr
            added.terminate()
            added.wait(60)
        assert found() == expected
        assert run.stop()[0] == 0


def test_what_others_write_is_processed_like_our_own(kafka_servers: str, tmp_path: Path) -> None:
    with on_kafka(tmp_path / "data", kafka_servers) as (run, variables):
        topic = variables["MILLSTREAM_LOG__KAFKA__PREFIX"] + "telemetry"
        producer = Producer({"bootstrap.servers": kafka_servers})
        for second in (1, 2, 25):
            reading = json.dumps({"ts": f"2026-01-01T00:00:{second:02}Z", "celsius": 95})
            producer.produce(topic, reading, key="other", partition=0)
            producer.produce(topic, b"\xff\xfe no JSON", partition=0)
        producer.flush()
        alerts = variables["MILLSTREAM_LOG__KAFKA__PREFIX"] + "alerts"
        wait_for(lambda: records(kafka_servers, alerts, 8))
        (alert,) = map(json.loads, records(kafka_servers, alerts, 8))
        assert (alert["device"], alert["mean"], alert["n"]) == ("other", 95.0, 2)
        assert run.stop()[0] == 0


def test_brokers_that_do_not_answer_are_told(tmp_path: Path) -> None:
    ended = millstream("streams", "--data", str(tmp_path), MILLSTREAM_LOG__URL="kafka://127.0.0.1:1")
    assert ended.returncode == 1
    assert "no broker answers at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
