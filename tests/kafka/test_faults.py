"""A broker that freezes and dies under load: what was acknowledged is there, and it goes on by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.kafka.test_platform import APP, records, wait_for
from tests.support.kafka import Broker, brokers
from tests.support.millstream import Running, reserved_port, running_on

pytestmark = pytest.mark.kafka

STILL_REGISTERED = {"broker.session.timeout.ms": "9000"}
"""For so long a broker that has died bars itself from coming back."""

TOPIC = "site/a/press-1/telemetry"


class Device:
    """Publishes numbers at QoS 1 until it is told to stop, and knows which ones were acknowledged. It keeps its
    session: what was not acknowledged is sent again when it connects again."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.acknowledged: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="device", clean_session=False)
        self._client.on_publish = lambda client, given, mid, reason, properties: self._note(mid)
        self._client.reconnect_delay_set(1, 2)
        self._client.connect("127.0.0.1", port)
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
        while not self._stop.wait(0.02):
            reading = json.dumps({"n": self.sent, "ts": "2026-01-01T00:00:01Z", "celsius": 1})
            self._numbers[self._client.publish(TOPIC, reading, qos=1).mid] = self.sent
            self.sent += 1

    def _note(self, mid: int) -> None:
        self.acknowledged.add(self._numbers[mid])


@contextmanager
def under_load(folder: Path, broker: Broker) -> Iterator[tuple[Running, Device]]:
    """The platform on a broker, with a device that publishes."""
    variables = {
        "MILLSTREAM_LOG__URL": f"kafka://{broker.address}",
        "MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S",
    }
    with running_on((reserved_port(), 0), folder, APP, cwd=None, **variables) as run:
        device = Device(run.mqtt_port)
        try:
            wait_for(lambda: len(device.acknowledged) >= 20)
            yield run, device
        finally:
            device.close()


def test_nothing_acknowledged_is_lost_when_a_broker_freezes_and_dies(kafka_servers: str, tmp_path: Path) -> None:
    with (
        brokers(1, STILL_REGISTERED) as (broker,),
        under_load(tmp_path / "data", broker) as (run, device),
    ):
        broker.freeze()
        time.sleep(4)
        broker.thaw()
        seen = len(device.acknowledged)
        wait_for(lambda: len(device.acknowledged) > seen + 20)
        broker.kill()
        time.sleep(12)
        broker.start()
        seen = len(device.acknowledged)
        wait_for(lambda: len(device.acknowledged) > seen + 20)
        device.stop()
        wait_for(lambda: len(device.acknowledged) == device.sent)
        values = [value for value in records(broker.address, "telemetry", 4) if value]
        there = {json.loads(value)["n"] for value in values}
        assert there == set(range(device.sent))
        assert run.process.poll() is None
