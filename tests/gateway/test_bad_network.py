"""Clients that people use, over a network that delays, stalls and cuts: nothing that was acknowledged is lost, QoS 2
arrives once, and in order."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from tests.support.gateway import Plant
from tests.support.proxy import Proxy

_MESSAGES = 150  # of each publisher
_FAULTS = 12
_PATIENCE = 90.0


@contextmanager
def client(
    address: tuple[str, int], name: str, version: MQTTProtocolVersion, prepare: Callable[[paho.Client], None]
) -> Iterator[paho.Client]:
    """One that comes back by itself, into the session that is kept for it. It is prepared before it connects."""
    is_5 = version is MQTTProtocolVersion.MQTTv5
    made = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=version, clean_session=None if is_5 else False)
    made.reconnect_delay_set(0.01, 0.05)  # type: ignore[arg-type]  # seconds, whole or not
    if is_5:
        its = PahoProperties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        its.SessionExpiryInterval = 3_600
        made.connect_async(*address, clean_start=False, properties=its)
    else:
        made.connect_async(*address)
    prepare(made)
    made.loop_start()
    try:
        yield made
    finally:
        made.disconnect()
        made.loop_stop()


def work(proxy: Proxy, version: MQTTProtocolVersion, qos: int) -> list[tuple[str, int]]:
    """Two publishers and a subscriber by way of the proxy; what the subscriber got."""
    address = proxy.address
    got: queue.Queue[tuple[str, int]] = queue.Queue()
    subscribed: queue.Queue[None] = queue.Queue()
    acknowledged: queue.Queue[None] = queue.Queue()
    count = 2 * _MESSAGES

    def subscribe(subscriber: paho.Client) -> None:
        subscriber.on_message = lambda client, data, message: got.put((message.topic, int(message.payload)))
        subscriber.on_subscribe = lambda *told: subscribed.put(None)
        subscriber.on_connect = lambda client, *told: client.subscribe("line/#", qos)

    def publish(name: str) -> Callable[[paho.Client], None]:
        """All of it before it connects: what paho publishes while it comes back may overtake what it sends again."""

        def give(publisher: paho.Client) -> None:
            publisher.on_publish = lambda *told: acknowledged.put(None)
            for number in range(_MESSAGES):
                publisher.publish(f"line/{name}", f"{number:100}", qos)

        return give

    with client(address, "subscriber", version, subscribe):
        subscribed.get(timeout=_PATIENCE)
        proxy.rages = True
        with client(address, "one", version, publish("one")), client(address, "two", version, publish("two")):
            for _ in range(count):
                acknowledged.get(timeout=_PATIENCE)
        found: list[tuple[str, int]] = []
        while len(set(found)) < count:
            found.append(got.get(timeout=_PATIENCE))
        proxy.rages = False
        return found


@pytest.mark.parametrize(("version", "qos"), [(version, qos) for version in (4, 5) for qos in (1, 2)])
async def test_nothing_is_lost_and_order_holds(running: Plant, version: int, qos: int) -> None:
    async with Proxy(running.address, seed=version * 10 + qos).running() as proxy:
        found = await asyncio.to_thread(work, proxy, MQTTProtocolVersion(version), qos)
    assert sum(proxy.faults.values()) >= _FAULTS, proxy.faults
    for name in ("one", "two"):
        numbers = [number for topic, number in found if topic == f"line/{name}"]
        if qos == 2:
            assert numbers == list(range(_MESSAGES)), "each once, in order"
        else:
            assert list(dict.fromkeys(numbers)) == list(range(_MESSAGES)), "in order, but for what comes again"
