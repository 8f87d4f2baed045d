"""The server role: the log, the gateway and the bus of a data folder, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from importlib.metadata import version

import msgspec

from millstream.app import CATCH_ALL
from millstream.bus import Peer
from millstream.clock import Clock, SystemClock, to_text
from millstream.devices import Registry
from millstream.errors import DiskFaultError
from millstream.gateway import Gateway
from millstream.log import StreamSpec
from millstream.runtime.allocation import AllocationService
from millstream.runtime.backend import READY, WAITING, ServersLog
from millstream.runtime.bus import SocketBus
from millstream.runtime.control import Control, Drain, Drained, Go, Prepared, Ready, Start, Stop
from millstream.runtime.devices_service import DevicesService
from millstream.runtime.endpoint import ServerInfo, remove_server_info, socket_path, write_server_info
from millstream.runtime.files import allow_connections
from millstream.runtime.measuring import server_sources, state_bytes
from millstream.runtime.memory import collect_rarely
from millstream.runtime.otlp import exporting
from millstream.runtime.telemetry import tracing
from millstream.runtime.topics import TopicsService
from millstream.settings import Settings

STATUS = "server.status"
"""The subject that tells about the server, as JSON."""

LOG_FAULT_EXIT = 74  # EX_IOERR of sysexits.h: the disk failed, and what was being committed is unknown

_log = logging.getLogger(__name__)


class Server:
    """What serves a data folder. Made by `opened`; the gateway listens from `listen` until `drain`."""

    def __init__(self, log: ServersLog, gateway: Gateway, bus: SocketBus, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._gateway = gateway
        self._bus = bus
        self._folder = settings.data
        self._clock = clock
        self._info: ServerInfo | None = None
        log.on_fault(_end_process)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, settings: Settings, clock: Clock) -> AsyncIterator[Server]:
        """Open the log and serve it on the bus; everything is closed at the end."""
        allow_connections(settings.limits)
        async with contextlib.AsyncExitStack() as closing:
            log = await closing.enter_async_context(ServersLog.opened(settings, clock))
            tracer = await closing.enter_async_context(tracing(settings, "server"))
            registry = await Registry.open(settings.registry, settings.data, clock, key=settings.registry_key)
            closing.push_async_callback(registry.close)
            registry.database.on_fault(_end_process)
            gateway = Gateway(log.log, settings, clock, tracer=tracer, registry=registry)
            bus = SocketBus()
            server = cls(log, gateway, bus, settings, clock)
            log.on_show(gateway.topics.publish, gateway.topics.hears)
            log.serve(bus)
            topics = TopicsService(gateway.topics, bus)
            DevicesService(gateway, registry, bus)
            gateway.allocate_with(AllocationService(bus))
            for source in server_sources(log, bus, topics):
                gateway.sources.add(source)
            bus.serve(STATUS, server.status)
            remove_server_info(settings.data)  # a dead server's
            await bus.listen(socket_path(settings.data))
            closing.push_async_callback(topics.close)
            closing.push_async_callback(bus.close)
            closing.push_async_callback(server.drain)
            await closing.enter_async_context(exporting(settings, gateway.sources, clock))
            yield server

    async def make_catch_all(self) -> None:
        """Make the stream that captures everything, for a server without an application."""
        await self._log.log.create(StreamSpec(CATCH_ALL, ("#",)))

    async def listen(self) -> Ready:
        """Let clients in, and say in the folder where."""
        await self._gateway.start()
        mqtt, http = _text(self._gateway.mqtt_address), _text(self._gateway.http_address)
        self._info = ServerInfo(
            pid=os.getpid(), version=version("millstream"), started=self._clock.now(), mqtt=mqtt, http=http
        )
        try:
            write_server_info(self._folder, self._info)
        except OSError as error:  # a full disk: clients are served all the same
            _log.warning("%s; until the next start, commands need --mqtt or --http to find this server", error)
        return Ready(mqtt, http, self._gateway.first_key)

    async def drain(self) -> None:
        """Let nobody in any more, and answer what has come. Idempotent."""
        if self._info is not None:
            self._info = None
            remove_server_info(self._folder)
        await self._gateway.stop()

    async def status(self, peer: Peer, body: bytes) -> bytes:
        """What an operator wants to know."""
        info = msgspec.to_builtins(self._info) if self._info is not None else {}
        if self._info is not None:
            info["started"] = to_text(self._info.started)
        waiting = self._log.waiting
        log = {"state": READY} if waiting is None else {"state": WAITING, "reason": waiting}
        known = {"log": log, "statistics": self._gateway.statistics(), "state_bytes": await state_bytes(self._bus)}
        return msgspec.json.encode({**info, **known})

    async def end(self) -> None:
        """Return when the gateway has stopped. Raises what stopped it, if it was not `drain`."""
        await self._gateway.wait()


async def serve(control: Control) -> int:
    """Play the role for a supervisor."""
    collect_rarely()
    start = await control.expect(Start)
    async with Server.opened(start.read_settings(), SystemClock()) as server:
        following = asyncio.create_task(_follow(control, server, alone=start.app is None))
        failing = asyncio.create_task(server.end())
        try:
            await asyncio.wait((following, failing), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                failing.result()
            await following
        finally:
            for task in (following, failing):
                task.cancel()
            await asyncio.gather(following, failing, return_exceptions=True)
    return 0


async def _follow(control: Control, server: Server, *, alone: bool) -> None:
    """Do what the supervisor says."""
    if alone:
        await server.make_catch_all()
    control.say(Prepared())
    await control.expect(Go)
    control.say(await server.listen())
    await control.expect(Drain)
    await server.drain()
    control.say(Drained())
    await control.expect(Stop)


def _end_process(error: DiskFaultError) -> None:
    """Without another word to anybody: closing connections in order could pass for an answer, and closing the log would
    write again to a disk that has just failed."""
    _log.critical("the disk failed; this process ends, and recovers when it starts again: %s", error)
    os._exit(LOG_FAULT_EXIT)


def _text(address: tuple[str, int] | None) -> str | None:
    if address is None:
        return None
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
