"""A fleet of devices in one program, with paho-mqtt and the key of a group: each registers itself, measures, does what
its twin wants, answers method calls, and does its commands.

    python fleet.py --key "$GROUP_KEY" --first 0 --count 100

Whatever the server has acknowledged is a line of the file that --acknowledged names, so that one can look it up.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import itertools
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOUR = 3_600


def sign(key: str, text: str) -> str:
    """HMAC-SHA256 under a key in Base64, in Base64. Of a registration id under a group's key, it is a device's key."""
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def token(key: str, resource: str) -> str:
    """Proves for an hour that one has the key."""
    resource, expiry = quote(resource, safe=""), int(time.time()) + HOUR
    signature = quote(sign(key, f"{resource}\n{expiry}"), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"


class Server:
    """Where to connect, and how many of the fleet may be registering at a time."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.room = threading.Semaphore(10)

    def connect(self, client: mqtt.Client, user: str, password: str, kept_seconds: int = 0) -> None:
        """Come in, and have a thread that keeps the connection; what comes while it is lost is kept for so long."""
        client.username_pw_set(user, password)
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        kept.SessionExpiryInterval = kept_seconds
        while True:
            try:
                client.connect(self.host, self.port, keepalive=30, clean_start=not kept_seconds, properties=kept)
                break
            except OSError:  # paho tries again by itself only when it has been connected once
                time.sleep(1)
        client.loop_start()


class Device:
    """One of the fleet. What it wants to keep is a file of the fleet: the ids of events that the server has."""

    def __init__(self, name: str, group_key: str, acknowledged: TextIO) -> None:
        self.name = name
        self._key = sign(group_key, name)
        self._acknowledged = acknowledged
        self._sent: dict[int, str] = {}
        self._done: set[int] = set()  # what paho's thread tells
        self._numbers = itertools.count(time.time_ns())
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self._client.on_connect = self._connected
        self._client.on_message = self._told
        self._client.on_publish = self._published

    def register(self, server: Server) -> None:
        """Come into the registry by the group; whoever is there already stays as he is."""
        resource = f"provisioning/registrations/{self.name}"
        answered = threading.Event()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{self.name}-registers", protocol=mqtt.MQTTv5)

        def connected(*more: Any) -> None:
            client.subscribe(f"registrations/{self.name}/answer/+", 1)

        def subscribed(*more: Any) -> None:
            client.publish(f"registrations/{self.name}/register/1", qos=1)

        def told(*more: Any) -> None:
            answered.set()

        client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, told
        with server.room:
            server.connect(client, resource, token(self._key, resource))
            answered.wait(30)
            client.disconnect()
            client.loop_stop()

    def start(self, server: Server) -> None:
        """Be connected from now on."""
        server.connect(self._client, self.name, token(self._key, f"devices/{self.name}"), HOUR)

    def measure(self, celsius: float) -> None:
        """Publish a reading; it has an id, so that one that is sent twice counts once."""
        event_id = f"{self.name}-{next(self._numbers)}"
        its = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        its.UserProperty = [("id", event_id)]
        reading = json.dumps({"celsius": celsius})
        sent = self._client.publish(f"device/{self.name}/telemetry", reading, qos=1, properties=its)
        self._sent[sent.mid] = event_id

    def note(self) -> None:
        """Write down what the server has acknowledged since the last time."""
        for number in self._done & self._sent.keys():
            self._done.discard(number)
            self._acknowledged.write(f"{self._sent.pop(number)}\n")
        self._acknowledged.flush()

    def stop(self) -> None:
        """Take leave."""
        self.note()
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: mqtt.Client, data: Any, *more: Any) -> None:
        its = f"device/{self.name}"
        client.subscribe([(f"{its}/twin/desired", 1), (f"{its}/methods/+/+", 1), (f"{its}/commands/+", 1)])

    def _published(self, client: mqtt.Client, data: Any, number: int, *more: Any) -> None:
        self._done.add(number)

    def _told(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        match message.topic.split("/")[2:]:
            case ["twin", "desired"]:
                desired = json.loads(message.payload)["desired"]
                client.publish(f"device/{self.name}/twin/reported/1", json.dumps(desired), qos=1)
            case ["methods", method, call]:
                answer = {"status": 200, "payload": {"method": method}}
                client.publish(f"device/{self.name}/methods/{method}/{call}/answer", json.dumps(answer))
            case ["commands", command]:
                client.publish(f"device/{self.name}/commands/{command}/done", qos=1)


def main() -> None:
    parser = argparse.ArgumentParser(description="A fleet of devices.")
    parser.add_argument("--key", required=True, help="the group's key")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--first", type=int, default=0, help="the number of the first device")
    parser.add_argument("--count", type=int, default=100, help="how many")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two readings of a device")
    parser.add_argument("--acknowledged", type=Path, default=Path("acknowledged.txt"))
    options = parser.parse_args()
    server = Server(options.host, options.port)
    with options.acknowledged.open("a") as acknowledged:
        names = [f"press-{number:03}" for number in range(options.first, options.first + options.count)]
        devices = [Device(name, options.key, acknowledged) for name in names]
        coming = [threading.Thread(target=device.register, args=[server]) for device in devices]
        for thread in coming:
            thread.start()
        for thread in coming:
            thread.join()
        for device in devices:
            device.start(server)
        print(f"{len(devices)} devices are there", flush=True)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *more: stop.set())
        signal.signal(signal.SIGINT, lambda *more: stop.set())
        for reading in itertools.count():
            for device in devices:
                device.note()
                device.measure(20 + reading % 10)
            if stop.wait(options.every):
                break
        for device in devices:
            device.stop()


if __name__ == "__main__":
    main()
