"""The devices of the demo: one MQTT 5 client each (Eclipse Paho, QoS 1), and a client that listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from millstream.demo.recordings import Reading

IN_FLIGHT = 1000  # publishes of a device that are not acknowledged yet; Paho's default of 20 would slow a fast replay


class Devices:
    """Publishes readings, each by its device's own connection, and counts what was acknowledged."""

    def __init__(self, host: str, port: int, names: Iterable[str]) -> None:
        self.published = 0
        self._acknowledged = dict.fromkeys(names, 0)
        self._clients = {name: self._connect(host, port, name) for name in self._acknowledged}

    @property
    def acknowledged(self) -> int:
        """Publishes that the gateway has on disk, by its word."""
        return sum(self._acknowledged.values())

    def publish(self, reading: Reading) -> None:
        """Send a reading (and again, if the device resends it); returns before it is acknowledged."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("id", reading.id)
        for _ in range(reading.times):
            self._clients[reading.device].publish(reading.topic, reading.payload, qos=1, properties=properties)
            self.published += 1

    def close(self) -> None:
        """Disconnect all."""
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    def _connect(self, host: str, port: int, name: str) -> Client:
        def acknowledged(client: Client, data: object, mid: int, code: ReasonCode, properties: Properties) -> None:
            self._acknowledged[name] += 1  # only this device's network thread writes it

        client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_publish = acknowledged
        client.connect(host, port)
        client.loop_start()
        return client


def listen(host: str, port: int, topics: Iterable[str], heard: Callable[[str, bytes], object]) -> Client:
    """Subscribe, and call back with topic and payload (from the client's own thread)."""

    def connected(
        client: Client, data: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        client.subscribe([(topic, 1) for topic in topics])

    def message(client: Client, data: object, message: MQTTMessage) -> None:
        heard(message.topic, bytes(message.payload))

    client = Client(CallbackAPIVersion.VERSION2, client_id="people-on-duty", protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = connected
    client.on_message = message
    client.connect(host, port)
    client.loop_start()
    return client
