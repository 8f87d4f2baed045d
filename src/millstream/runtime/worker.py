"""The worker role: runs an application's processors beside a server, and joins again when the server comes back.

Every connection to a server is a session with a worker of its own: what was under way when a connection ended is
forgotten and done again from the last commit, as after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial

import pyarrow as pa

from millstream.app import App, load_app
from millstream.clock import Clock, SystemClock
from millstream.errors import DiskFaultError, LogUnavailableError
from millstream.log import Log
from millstream.runtime.allocation import Allocating
from millstream.runtime.backend import workers_log
from millstream.runtime.bus import connect
from millstream.runtime.control import Control, Go, Prepared, Ready, Start, Stop
from millstream.runtime.devices import BusDevices
from millstream.runtime.endpoint import socket_path
from millstream.runtime.measuring import Measuring
from millstream.runtime.memory import collect_rarely, keep_freed_memory
from millstream.runtime.peer import SocketPeer
from millstream.runtime.telemetry import tracing
from millstream.runtime.topics import BusTopics
from millstream.settings import Settings
from millstream.worker import Resources, Worker

FIRST_RETRY, LONGEST_RETRY = 0.05, 1.0  # seconds between tries to reach a server that is being started again
DRAIN_SHARE = 0.8  # of the drain's time; the rest is the gateway's, the last commit's and the log's

_log = logging.getLogger(__name__)


async def work(control: Control) -> int:
    """Play the role for a supervisor."""
    settings, app = await _prepared(control)
    clock = SystemClock()
    stopping = asyncio.Event()
    await control.expect(Go)
    told = asyncio.create_task(_set_when_told(control, stopping))
    try:
        devices = BusDevices()
        async with Resources(app, clock, devices) as resources:
            ready: Callable[[], None] = lambda: control.say(Ready())  # noqa: E731
            await keep_working(app, settings, clock, ready, stopping, resources, devices, control.name)
        return 0
    finally:
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)


async def prepare(control: Control) -> int:
    """Play the role of the one that makes what the application declares, where no worker of the supervisor does."""
    settings, app = await _prepared(control)
    await control.expect(Go)
    async with _connected(settings) as (_, log):
        await make_declared(app, log)
    control.say(Ready())
    return 0


async def make_declared(app: App, log: Log) -> None:
    """Make the streams that an application declares and the positions of its groups, so that nothing that is published
    from now on is missed by workers that come later."""
    plans = app.plan()
    internal = [spec for plan in plans.values() if (spec := plan.internal) is not None]
    for spec in (*app.streams.values(), *internal):
        await log.create(spec)
    groups = [
        *((handler.group, [handler.stream], handler.start) for handler in app.handlers),
        *((query.name, [*plans[query.name].reads], query.start) for query in app.queries),
    ]
    for group, streams, start in groups:
        await (await log.join(group, streams, start=start)).leave()


async def work_alone(settings: Settings, reference: str, joined: Callable[[], None]) -> None:
    """Play the role without a supervisor, until SIGTERM or Ctrl-C; a second signal ends it at once."""
    app = load_app(reference)
    app.check()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_die, stopping, number)
    clock = SystemClock()
    devices = BusDevices()
    async with Resources(app, clock, devices) as resources:
        await keep_working(app, settings, clock, joined, stopping, resources, devices, f"worker {os.getpid()}")


async def keep_working(
    app: App,
    settings: Settings,
    clock: Clock,
    joined: Callable[[], None],
    stopping: asyncio.Event,
    resources: Resources,
    devices: BusDevices,
    name: str,
) -> None:
    """Work, with one server after another, until `stopping`; `joined` is called when the first session stands. The
    app's resources stay open over all of them. `name` is the process's, in what it measures.

    Raises what the first session cannot begin with, and what a processor cannot go on after."""
    keep_freed_memory()
    async with tracing(settings, name) as tracer:
        make = partial(Worker, app, clock=clock, settings=settings, resources=resources, tracer=tracer)
        await _keep_joining(make, settings, clock, joined, stopping, devices, Measuring(name), Allocating(app))


async def _keep_joining(
    make: Callable[..., Worker],
    settings: Settings,
    clock: Clock,
    joined: Callable[[], None],
    stopping: asyncio.Event,
    devices: BusDevices,
    measuring: Measuring,
    allocating: Allocating,
) -> None:
    sessions, retry = 0, FIRST_RETRY
    while not stopping.is_set():
        try:
            async with _session(make, settings, stopping, devices, measuring, allocating) as ended:
                if not sessions:
                    collect_rarely()
                    joined()
                else:
                    _log.warning("joined again")
                sessions, retry = sessions + 1, FIRST_RETRY
                await ended
        except (LogUnavailableError, DiskFaultError) as error:
            if not sessions:
                raise
            _log.debug("%s", error)
        if not stopping.is_set():
            if retry == FIRST_RETRY:
                _log.warning("the server has gone; waiting for it to come back")
            await clock.sleep(retry)
            retry = min(retry * 2, LONGEST_RETRY)


@contextlib.asynccontextmanager
async def _session(
    make: Callable[..., Worker],
    settings: Settings,
    stopping: asyncio.Event,
    devices: BusDevices,
    measuring: Measuring,
    allocating: Allocating,
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that has joined; what it gives ends when the worker or the connection does."""
    topics = BusTopics()
    async with _connected(settings, topics.publish) as (peer, log):
        await topics.attach(peer)
        devices.attach(peer)
        worker = make(log=log, topics=topics, measures=measuring.processors)
        await worker.start()
        measuring.attach(peer, topics)
        allocating.attach(peer)
        ended = asyncio.create_task(_run(worker, peer, settings, stopping))
        try:
            yield ended
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)


async def _run(worker: Worker, peer: SocketPeer, settings: Settings, stopping: asyncio.Event) -> None:
    waiting = [asyncio.create_task(some) for some in (worker.run(), peer.wait_closed(), stopping.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await worker.stop(settings.drain_timeout * DRAIN_SHARE if stopping.is_set() else timedelta(0))
        await waiting[0]
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@contextlib.asynccontextmanager
async def _connected(
    settings: Settings, show: Callable[[pa.RecordBatch], None] | None = None
) -> AsyncIterator[tuple[SocketPeer, Log]]:
    peer = await connect(socket_path(settings.data))
    try:
        async with workers_log(peer, settings, show) as log:
            yield peer, log
    finally:
        await peer.close()


async def _prepared(control: Control) -> tuple[Settings, App]:
    start = await control.expect(Start)
    settings = start.read_settings()
    app = load_app(start.app or "")
    app.check()
    control.say(Prepared())
    return settings, app


async def _set_when_told(control: Control, stopping: asyncio.Event) -> None:
    try:
        await control.expect(Stop)
    finally:
        stopping.set()  # also when the supervisor is gone


def _stop_or_die(stopping: asyncio.Event, number: int) -> None:
    if stopping.is_set():
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    stopping.set()
