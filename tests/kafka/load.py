"""The platform under load, on brokers that a test lets freeze and die."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.support.kafka_logs import fresh_prefix
from tests.support.millstream import Running, environment, running, running_on
from tests.support.ports import reserved_port

APP = str(Path(__file__).with_name("plant.py"))


def wait_for(condition: Callable[[], object], seconds: float = 240) -> None:
    """Return when it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def messages(servers: str, topic: str, partitions: int) -> list[Message]:
    """What any Kafka client reads of a topic, up to its end."""
    return all_messages(servers, {topic: partitions})[topic]


def all_messages(servers: str, topics: Mapping[str, int]) -> dict[str, list[Message]]:
    """The same of several topics, with their partitions, at once."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "somebody",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    places = [(topic, number) for topic, partitions in topics.items() for number in range(partitions)]
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in places])
    found: dict[str, list[Message]] = {topic: [] for topic in topics}
    ended: set[tuple[str, int]] = set()
    while len(ended) < len(places):
        for message in consumer.consume(500, 0.2):
            error, topic = message.error(), message.topic() or ""
            if error is None:
                found[topic].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add((topic, message.partition() or 0))
            else:
                assert error.retriable() or error.code() == KafkaError._TRANSPORT, error
    consumer.close()
    return found


def text(raw: bytes | str | None) -> str:
    """What a key, a value or a header says."""
    return raw if isinstance(raw, str) else (raw or b"").decode()


def records(servers: str, topic: str, partitions: int) -> list[bytes]:
    """What the records hold."""
    return [message.value() or b"" for message in messages(servers, topic, partitions)]


class Device:
    """Publishes numbered readings at QoS 1, every fifth as a door, until it is told to stop, and knows which ones were
    acknowledged. Each has an id, and what was not acknowledged is sent again when it connects again."""

    def __init__(self, port: int, name: str = "press-1", padding: int = 0, every: float = 0.02) -> None:
        self.name = name
        self.sent = 0
        self.acknowledged: set[int] = set()
        self.connections = 0
        self._padding = "x" * padding
        self._every = every
        self._numbers: dict[int, int] = {}
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.on_publish = lambda client, given, mid, reason, properties: self._note(mid)
        self._client.on_connect = lambda *given: self._connected()
        self._client.reconnect_delay_set(1, 2)
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=kept)
        self._client.loop_start()
        self._thread = threading.Thread(target=self._publish)
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        self._thread.join()

    def close(self) -> None:
        """Go away."""
        self.stop()
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self) -> None:
        while not self._stop.wait(self._every):
            kind = "telemetry" if self.sent % 5 else "door"
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = ("id", f"{self.name}-{self.sent}")
            sent = self._client.publish(f"site/a/{self.name}/{kind}", self._reading(), qos=1, properties=properties)
            self._numbers[sent.mid] = self.sent
            self.sent += 1

    def _reading(self) -> str:
        second = f"2026-01-01T{self.sent // 3600:02}:{self.sent // 60 % 60:02}:{self.sent % 60:02}Z"
        celsius = 70 + self.sent % 37
        return json.dumps({"n": self.sent, "ts": second, "celsius": celsius, "padding": self._padding})

    def _note(self, mid: int) -> None:
        self.acknowledged.add(self._numbers[mid])

    def _connected(self) -> None:
        self.connections += 1


def numbers(servers: str, topic: str, partitions: int, device: Device) -> list[int]:
    """What a topic has of a device, in the order of its numbers."""
    found = messages(servers, topic, partitions)
    return sorted(json.loads(message.value() or b"")["n"] for message in found if message.key() == device.name.encode())


@contextmanager
def under_load(folder: Path, servers: str, *devices: str, **variables: str) -> Iterator[tuple[Running, list[Device]]]:
    """The platform on brokers, with devices that publish."""
    settings = {"MILLSTREAM_LOG__URL": f"kafka://{servers}", **variables}
    with running_on((reserved_port(), 0), folder, APP, cwd=None, **settings) as run:
        sending = [Device(run.mqtt_port, name) for name in devices or ("press-1",)]
        try:
            wait_for(lambda: all(len(device.acknowledged) >= 20 for device in sending))
            yield run, sending
        finally:
            for device in sending:
                device.close()


@contextmanager
def on_kafka(folder: Path, servers: str, app: str = APP) -> Iterator[tuple[Running, dict[str, str]]]:
    """An application on Kafka, and the settings in the environment."""
    variables = {
        "MILLSTREAM_LOG__URL": f"kafka://{servers}",
        "MILLSTREAM_LOG__KAFKA__PREFIX": fresh_prefix(),
        "MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S",
    }
    with running(folder, app, cwd=None, **variables) as run:
        yield run, variables


@contextmanager
def another_worker(run: Running, app: str, variables: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker beside those that the supervisor has started; it is killed, unless it has ended before."""
    command = [sys.executable, "-m", "millstream", "work", app, "--data", str(run.folder)]
    with subprocess.Popen(command, env={**environment(), **variables}, stdout=subprocess.DEVNULL) as added:
        try:
            yield added
        finally:
            added.kill()
