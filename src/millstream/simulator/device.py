"""One simulated device, as its program would be: it registers itself, connects with the same key, reports what it is
to be, answers calls and does its commands; and after every end of its connection it comes again."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from millstream.clock import SECOND, Clock
from millstream.devices import derive_key, make_token, resource_of_registration
from millstream.errors import MillstreamError
from millstream.simulator.profile import Profile

Counts = Counter[str]

_TOKEN_SECONDS = 3_600
_PATIENCE = 30.0
_SHORTEST_AWAY, _LONGEST_AWAY = 1.0, 10.0  # seconds after a connection that ended
FIRMWARE = "1.9"


@dataclass(frozen=True, slots=True)
class Site:
    """What all devices share. `interval` is in seconds; `connecting` bounds how many come in at a time."""

    host: str
    port: int
    group_key: str
    profile: Profile
    interval: float
    clock: Clock
    connecting: asyncio.Semaphore
    counts: Counts = field(default_factory=Counter)


class _DropoutError(Exception):
    """The device loses its connection on purpose."""


class SimulatedDevice:
    """Runs until it is cancelled. What it draws by chance depends on its name and the seed alone."""

    def __init__(self, name: str, site: Site, seed: int) -> None:
        self.name = name
        self._site = site
        self._chance = random.Random(f"{seed}/{name}")  # noqa: S311 (it is to be repeatable)
        self._phase = self._chance.random()
        self._key = derive_key(site.group_key, name)
        self._number = 0

    async def run(self) -> None:
        """Register, then connect again and again."""
        await self._again(self._register)
        while True:
            await self._again(self._serve)

    async def _again(self, act: Any) -> None:
        """Until it has worked."""
        while True:
            try:
                return await act()  # type: ignore[no-any-return]
            except _DropoutError:
                self._site.counts["dropouts"] += 1
            except (aiomqtt.MqttError, MillstreamError, TimeoutError, OSError):
                self._site.counts["failures"] += 1
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # a task group whose task fails at that moment swallows it
                raise asyncio.CancelledError
            await self._site.clock.sleep(self._chance.uniform(_SHORTEST_AWAY, _LONGEST_AWAY))

    async def _register(self) -> None:
        resource = resource_of_registration(self.name)
        root = f"registrations/{self.name}"
        async with (
            self._site.connecting,
            asyncio.timeout(3 * _PATIENCE),
            self._client(resource, resource) as client,
        ):
            await client.subscribe(f"{root}/answer/+", qos=1)
            await client.publish(f"{root}/register/1", qos=1)
            async for message in client.messages:
                answer = json.loads(_bytes(message))
                if answer["status"] != 200:
                    raise MillstreamError(answer["error"]["message"])
                self._site.counts["registered"] += 1
                return

    async def _serve(self) -> None:
        root = f"device/{self.name}"
        client = self._client(self.name, f"devices/{self.name}")
        async with self._site.connecting, asyncio.timeout(_PATIENCE):
            await client.__aenter__()
        try:
            self._site.counts["connections"] += 1
            wanted = ("twin/desired", "methods/+/+", "commands/+")
            async with asyncio.timeout(_PATIENCE):
                await client.subscribe([(f"{root}/{each}", 1) for each in wanted])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hear(client, root))
                tasks.create_task(self._measure(client))
        except* (_DropoutError, aiomqtt.MqttError) as group:
            raise group.exceptions[0] from None
        finally:
            async with asyncio.timeout(_PATIENCE):
                await client.__aexit__(None, None, None)

    async def _measure(self, client: aiomqtt.Client) -> None:
        its, profile, counts = self._site, self._site.profile, self._site.counts
        topic = profile.topic.replace("{id}", self.name)
        await its.clock.sleep(self._phase * its.interval)
        while True:
            payload, late, corrupt = profile.reading(its.clock.now(), self._phase, self._chance)
            self._number += 1
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = [("id", f"{self.name}-{its.clock.now()}-{self._number}")]
            copies = 2 if self._chance.random() < profile.faults.duplicate else 1
            for _ in range(copies):
                await client.publish(topic, payload, qos=1, properties=properties)
            counts.update(readings=1, duplicates=copies - 1, late=int(late), corrupt=int(corrupt))
            if self._chance.random() < profile.faults.dropout:
                raise _DropoutError
            await its.clock.sleep(its.interval)

    async def _hear(self, client: aiomqtt.Client, root: str) -> None:
        async for message in client.messages:
            topic, counts = str(message.topic).removeprefix(f"{root}/"), self._site.counts
            if topic == "twin/desired":
                desired = json.loads(_bytes(message))["desired"]
                await client.publish(f"{root}/twin/reported", json.dumps({**desired, "firmware": FIRMWARE}), qos=1)
                counts["twins"] += 1
            elif topic.startswith("commands/"):
                await client.publish(f"{root}/{topic}/done", qos=1)
                counts["commands"] += 1
            else:
                answer = _answer(topic.split("/")[1], _bytes(message))
                await client.publish(f"{root}/{topic}/answer", json.dumps(answer), qos=1)
                counts["calls"] += 1

    def _client(self, user: str, resource: str) -> aiomqtt.Client:
        site = self._site
        password = make_token(self._key, resource, site.clock.now() + _TOKEN_SECONDS * SECOND)
        identifier = self.name if user == self.name else f"{self.name}-registers"
        its = {"username": user, "password": password, "protocol": aiomqtt.ProtocolVersion.V5}
        # With a time-out of its own it waits by `asyncio.wait_for`, which in Python 3.11 keeps a cancellation to itself
        # that comes together with what is waited for: the device would go on for ever.
        return aiomqtt.Client(site.host, site.port, identifier=identifier, timeout=math.inf, **its)  # type: ignore[arg-type]


def _answer(method: str, payload: bytes) -> dict[str, Any]:
    """`ping` gives back what it gets, `reboot` says that it does; there is nothing else."""
    if method == "ping":
        return {"status": 200, "payload": json.loads(payload or b"null")}
    if method == "reboot":
        return {"status": 200, "payload": {"rebooting": True}}
    return {"status": 404, "payload": {"methods": ["ping", "reboot"]}}


def _bytes(message: aiomqtt.Message) -> bytes:
    payload = message.payload
    return payload if isinstance(payload, bytes) else b""
