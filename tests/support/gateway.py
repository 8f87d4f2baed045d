"""A gateway for tests, over the real engine in memory, and a log whose commits a test can hold and fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.support.mqtt import PATIENCE, RawClient

from millstream.clock import VirtualClock
from millstream.devices import Registry
from millstream.event import Event
from millstream.gateway import Gateway
from millstream.log import Committed, Group, Log, Transaction
from millstream.mqtt import Version
from millstream.settings import Limits, Settings


class HeldLog:
    """The real log, but its commits wait while `gate` is closed, and fail with `error` (once each in turn)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[Exception] = []
        self.waiting = asyncio.Event()
        self.members: dict[str, Group] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def join(self, group: str, streams: Sequence[str], **more: Any) -> Group:
        self.members[group] = await self._log.join(group, streams, **more)
        return _HeldGroup(self.members[group], self)


class _HeldGroup:
    def __init__(self, group: Group, log: HeldLog) -> None:
        self._group = group
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def transaction(self) -> Transaction:
        return _HeldTransaction(self._group.transaction(), self._log)


class _HeldTransaction:
    def __init__(self, transaction: Transaction, log: HeldLog) -> None:
        self._transaction = transaction
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transaction, name)

    async def commit(self) -> Committed:
        self._log.waiting.set()
        await self._log.gate.wait()
        self._log.waiting.clear()
        if self._log.errors:
            raise self._log.errors.pop(0)
        return await self._transaction.commit()


class Plant:
    """A gateway with its log and clock, and the clients of a test."""

    def __init__(self, log: Log, clock: VirtualClock, registry: Registry | None = None) -> None:
        self.log = HeldLog(log)
        self.clock = clock
        self._registry = registry
        self._clients: list[RawClient] = []
        self._gateways: list[Gateway] = []

    async def start(self, **given: Any) -> Gateway:
        """Start a gateway: MQTT on a free port, anonymous, no HTTP, unless settings are given otherwise."""
        defaults = {"mqtt": "127.0.0.1:0", "http": "", "allow_anonymous": True}
        gateway = Gateway(self.log, Settings(**{**defaults, **given}), self.clock, registry=self._registry)
        self._gateways.append(gateway)
        await gateway.start()
        return gateway

    @property
    def gateway(self) -> Gateway:
        return self._gateways[-1]

    @property
    def address(self) -> tuple[str, int]:
        assert self.gateway.mqtt_address is not None
        return self.gateway.mqtt_address

    @property
    def statistics(self) -> Mapping[str, Any]:
        return self.gateway.statistics()

    async def open(self, version: Version = Version.V5) -> RawClient:
        client = await RawClient.open(self.address, version)
        self._clients.append(client)
        return client

    async def connect(self, client_id: str = "press-1", version: Version = Version.V5, **asked: Any) -> RawClient:
        client = await RawClient.connect(self.address, client_id, version, **asked)
        self._clients.append(client)
        return client

    async def read(self, stream: str) -> list[Event]:
        """Everything in a stream, partition by partition."""
        spec = (await self.log.streams())[stream]
        batches = [await self.log.read(stream, number, 0) for number in range(spec.partitions)]
        return [event for batch in batches for event in batch]

    async def payloads(self, stream: str) -> list[bytes]:
        return sorted(event.payload for event in await self.read(stream))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let everything run until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  # conditions of many kinds, and nobody to set an event
                await asyncio.sleep(0)

    async def stop(self) -> None:
        self.log.gate.set()
        for client in self._clients:
            await client.close()
        for gateway in self._gateways:
            await gateway.stop()
            check_balance(gateway.statistics())


def check_balance(its: Mapping[str, Any]) -> None:
    """Every event ended in one of the named ways."""
    ends = its["committed"] + its["duplicates"] + its["transient"] + its["pending"] + sum(its["rejected"].values())
    assert its["received"] == ends, its


def limits(**given: object) -> Limits:
    """Limits with plain numbers, as settings are written."""
    return Limits.model_validate(given)
