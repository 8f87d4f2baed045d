"""The demo on Kafka: what it says is what it says on the embedded log, and it leaves nothing behind."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient
from tests.support.millstream import millstream

pytestmark = pytest.mark.kafka

VARYING = ("hourly", "in stream events", "by millstream.demo.plant.notify", "MQTT at", "readings sent,")
"""How many windows silence has closed before the end is a matter of time."""


def test_the_demo_says_the_same_on_kafka(kafka_servers: str) -> None:
    before = topics_of(kafka_servers)
    embedded = millstream("demo", "--for", "300", "--speed", "220000")  # half a minute, if the machine can
    kafka = millstream("demo", "--for", "300", "--speed", "160000", "--log", f"kafka://{kafka_servers}")
    assert kafka.returncode == 0, kafka.stdout + kafka.stderr
    assert embedded.returncode == 0, embedded.stdout + embedded.stderr
    assert said(kafka.stdout) == said(embedded.stdout)
    assert not [topic for topic in topics_of(kafka_servers) - before if topic.startswith("demo-")]


def topics_of(servers: str) -> set[str]:
    """The names of all topics."""
    return set(AdminClient({"bootstrap.servers": servers}).list_topics().topics)


def said(output: str) -> list[str]:
    """Alerts and counts, in an order that can be compared."""
    return sorted(line for line in output.splitlines() if not any(words in line for words in VARYING))


def test_brokers_that_do_not_answer_are_told() -> None:
    ended = millstream("demo", "--log", "kafka://127.0.0.1:1")
    assert ended.returncode == 1
    assert "no broker answers at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr
