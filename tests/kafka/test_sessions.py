"""MQTT sessions that are kept, and retained messages, where the log is on Kafka."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from tests.kafka.load import APP, wait_for
from tests.support.kafka_logs import fresh_prefix
from tests.support.millstream import running_on
from tests.support.ports import reserved_port

pytestmark = pytest.mark.kafka


class Client:
    """Connects with a session that is kept, and notes what it is told."""

    def __init__(self, port: int, name: str) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self.present: bool | None = None
        self._answered = threading.Event()
        self.mqtt = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self.mqtt.on_message = lambda client, given, message: self.heard.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self.mqtt.on_connect = lambda client, given, flags, reason, properties: self._connected(flags.session_present)
        self.mqtt.on_subscribe = lambda *given: self._answered.set()
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = 3600
        self.mqtt.connect("127.0.0.1", port, clean_start=False, properties=kept)
        self.mqtt.loop_start()
        wait_for(lambda: self.present is not None)

    def subscribe(self, topic_filter: str) -> None:
        """Return when it is granted."""
        self._answered.clear()
        self.mqtt.subscribe(topic_filter, qos=1)
        assert self._answered.wait(60)

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Return when it is acknowledged."""
        self.mqtt.publish(topic, payload, qos=1, retain=retain).wait_for_publish(60)

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def _connected(self, present: bool) -> None:
        self.present = present


def test_what_waits_for_a_session_outlives_the_server(kafka_servers: str, tmp_path: Path) -> None:
    variables = {
        "MILLSTREAM_LOG__URL": f"kafka://{kafka_servers}",
        "MILLSTREAM_LOG__KAFKA__PREFIX": fresh_prefix(),
        "MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S",
    }
    with running_on((reserved_port(), 0), tmp_path / "data", APP, cwd=None, **variables) as run:
        away = Client(run.mqtt_port, "away")
        assert not away.present
        away.subscribe("site/#")
        away.close()
        publisher = Client(run.mqtt_port, "publisher")
        for number in range(3):
            publisher.publish("site/a/gate-1/door", f'"door {number}"')
        publisher.publish("notes/a", "kept", retain=True)
        publisher.close()
        before = run.children()["server"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: run.children().get("server", before) != before)
        wait_for(lambda: "server is back" in run.logs())
        again = Client(run.mqtt_port, "away")
        assert again.present
        wait_for(lambda: len(again.heard) >= 3)
        assert again.heard == [("site/a/gate-1/door", f'"door {number}"'.encode(), False) for number in range(3)]
        again.subscribe("notes/#")
        wait_for(lambda: len(again.heard) >= 4)
        assert again.heard[3:] == [("notes/a", b"kept", True)]
        again.close()
        assert run.stop()[0] == 0
