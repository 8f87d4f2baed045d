"""Other programs read what we write, and we process what they write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Message, Producer
from tests.kafka.load import on_kafka, records, wait_for
from tests.support.kafka import REQUIRED
from tests.support.millstream import millstream

pytestmark = pytest.mark.kafka


def kcat(servers: str, *arguments: str, stdin: str | None = None) -> str:
    """Run kcat to its end."""
    program = shutil.which("kcat")
    if program is None:
        assert not os.environ.get(REQUIRED), "kcat is not installed (apt-get install kcat)"
        pytest.skip("kcat is not installed")
    command = [program, "-q", "-b", servers, *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=True)
    return ended.stdout


def reading(second: int, celsius: float) -> str:
    return json.dumps({"ts": f"2026-01-01T00:00:{second:02}Z", "celsius": celsius})


def test_kcat_writes_readings_and_reads_alerts(kafka_servers: str, tmp_path: Path) -> None:
    with on_kafka(tmp_path / "data", kafka_servers) as (run, variables):
        prefix = variables["MILLSTREAM_LOG__KAFKA__PREFIX"]
        lines = "".join(f"press-9|{reading(second, 91)}\n" for second in (1, 2, 25))
        kcat(
            kafka_servers,
            "-P",
            "-t",
            f"{prefix}telemetry",
            "-K",
            "|",
            "-H",
            "content-type=application/json",
            stdin=lines,
        )
        wait_for(lambda: records(kafka_servers, f"{prefix}alerts", 8))
        run.publish("site/a/gate-1/door", '{"open": true}')
        wait_for(lambda: records(kafka_servers, f"{prefix}doors", 1))
        options = ("-C", "-e", "-X", "isolation.level=read_committed", "-f", "%k %h %s\\n")
        (alert,) = kcat(kafka_servers, *options, "-t", f"{prefix}alerts").splitlines()
        key, headers, value = alert.split(" ", 2)
        named = dict(header.split("=", 1) for header in headers.split(","))
        assert key == "press-9"
        assert json.loads(value)["mean"] == 91
        assert (named["ce_specversion"], named["content-type"], named["ce_topic"]) == (
            "1.0",
            "application/json",
            "alerts",
        )
        assert named["millstream-group"] == "overheating"
        assert {"ce_id", "ce_source", "ce_type"} <= named.keys()
        (door,) = kcat(kafka_servers, *options, "-t", f"{prefix}doors").splitlines()
        assert door.startswith("gate-1 ")
        assert door.endswith('{"open": true}')


def test_records_that_are_not_ours_are_processed_or_set_aside(kafka_servers: str, tmp_path: Path) -> None:
    with on_kafka(tmp_path / "data", kafka_servers) as (_, variables):
        prefix = variables["MILLSTREAM_LOG__KAFKA__PREFIX"]
        topic = f"{prefix}telemetry"
        producer = Producer({"bootstrap.servers": kafka_servers, "message.max.bytes": 20 << 20})
        refused: list[KafkaError] = []

        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                refused.append(error)

        for second in (1, 2, 25):
            producer.produce(topic, reading(second, 95), key="other", partition=0, on_delivery=told)
            producer.produce(topic, b"\xff\xfe no JSON", partition=0, on_delivery=told)  # without a key
            producer.produce(
                topic, None, key=b"\xff", partition=0, on_delivery=told
            )  # a tombstone; a key that is no text
        producer.produce(topic, b"x", headers=[("ce_time", b"\xff"), ("ce_topic", None)], partition=0, on_delivery=told)
        producer.produce(topic, b"x" * (7 << 20), key="large", partition=0, on_delivery=told)
        producer.flush()
        assert not refused
        producer.produce(topic, b"x" * (9 << 20), key="too large", partition=0, on_delivery=told)
        producer.flush()
        assert [error.code() for error in refused] == [KafkaError.MSG_SIZE_TOO_LARGE]
        wait_for(lambda: records(kafka_servers, f"{prefix}alerts", 8))
        (alert,) = map(json.loads, records(kafka_servers, f"{prefix}alerts", 8))
        assert (alert["device"], alert["mean"], alert["n"]) == ("other", 95.0, 2)
        arguments = ("ledger", "--json", "--data", str(tmp_path / "data"))
        wait_for(lambda: dead_letters(json.loads(millstream(*arguments, **variables).stdout)) == 8)
        assert json.loads(millstream(*arguments, **variables).stdout)["balanced"]


def dead_letters(ledger: dict[str, object]) -> int:
    """How many records were set aside."""
    groups = ledger["groups"]
    assert isinstance(groups, list)
    return sum(group["outcomes"].get("dead-lettered", 0) for group in groups if group["group"] == "overheating")
