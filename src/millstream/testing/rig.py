"""The engine of a plant: the real log in memory, the real gateway without listeners, the real workers; and when all of
it has come to rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from millstream.app import App
from millstream.clock import Clock
from millstream.errors import MillstreamError
from millstream.gateway import Gateway
from millstream.gateway.listeners.auth import UserAuthenticator
from millstream.log import Log
from millstream.log.sqlite import SqliteLog
from millstream.reference import RegistrySource
from millstream.settings import GivenSettings
from millstream.testing.calls import Calls
from millstream.testing.devices import ScriptedDevices, ScriptedRegistry
from millstream.testing.instance import Instance
from millstream.testing.patience import Patience
from millstream.testing.record import Record
from millstream.testing.rest import rest
from millstream.worker import Worker

_SETTINGS = GivenSettings(mqtt="", http="")


class RestlessError(MillstreamError):
    """The plant has not come to rest in time: something of the app goes on, or waits for what does not come."""


class Rig:
    """Made by `opened`. `instances` are those of the app, `record` what its streams and groups have come to."""

    def __init__(
        self,
        log: SqliteLog,
        app: App,
        clock: Clock,
        calls: Calls,
        patience: float,
        registry: ScriptedRegistry | None,
    ) -> None:
        anybody = UserAuthenticator({}, allow_anonymous=True, clock=clock)
        self.log = log
        self.gateway = Gateway(log, _SETTINGS, clock, anybody)
        log.on_show(self.gateway.topics.publish)
        self.record = Record(log)
        self.instances: list[Instance] = []
        self.devices = ScriptedDevices(registry)
        self._app = app
        self._clock = clock
        self._calls = calls
        self._patience = patience
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, app: App, clock: Clock, calls: Calls, *, workers: int, patience: float) -> AsyncIterator[Rig]:
        """Started in the order of the runtime, and ended in the opposite one. `patience` is in seconds."""
        log = await SqliteLog.memory(clock)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(log.close)
            registry = None
            if any(isinstance(reference.source, RegistrySource) for reference in app.references.values()):
                registry = ScriptedRegistry(clock, partial(calls.under_way, "the registry"))
                await closing.enter_async_context(registry)
            rig = cls(log, app, clock, calls, patience, registry)
            for _ in range(workers):
                instance = Instance(rig._make_worker, log)
                await instance.start()
                closing.push_async_callback(instance.stop)
                rig.instances.append(instance)
            await rig.gateway.start()
            closing.push_async_callback(rig.gateway.stop)
            yield rig

    async def come_to_rest(self) -> None:
        """Return when nothing is left to do before time passes. `RestlessError`; raises what ended a worker."""
        __tracebackhide__ = True
        async with self._one_at_a_time:
            patience = Patience(self._patience)
            try:
                async with patience.limit():
                    while await self._moves():
                        pass
            except TimeoutError:
                if not patience.is_over:
                    raise
                raise RestlessError(self._unrest()) from None

    async def _moves(self) -> bool:
        """Wait for what is under way, and let everything run that follows. Whether something is under way again."""
        __tracebackhide__ = True
        if self._calls.awake:
            await self._calls.move()
        await self.log.drain()
        await rest()
        for instance in self.instances:
            if instance.is_dead:
                await instance.kill()
                await instance.start()
                return True
            instance.check()
        return self.log.is_busy or bool(self._calls.awake)

    def _unrest(self) -> str:
        busy, waited = ", ".join(self._calls.awake), f"{self._patience:g} s (patience=…)"
        if not busy:
            return f"tasks of the event loop are always ready to go on; the plant has not come to rest in {waited}"
        return (
            f"{busy} is still under way after {waited}; if it waits for something that the test does later, "
            "let the test publish in a task: asyncio.create_task(plant.publish(…))"
        )

    def _make_worker(self, log: Log) -> Worker:
        return Worker(
            self._app, log, self.gateway.topics, self._clock, _SETTINGS, devices=self.devices, watch=self._calls
        )
