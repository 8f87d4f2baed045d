"""The cloud gateway: everything between the sockets and the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from millstream.clock import SECOND, Clock
from millstream.errors import DeviceOfflineError
from millstream.gateway.attributes import Attributes
from millstream.gateway.http import (
    Access,
    Audit,
    Bodies,
    Events,
    Groups,
    Health,
    HttpServer,
    Members,
    Metrics,
    OpenApi,
    Pages,
    Part,
    Publishing,
    Readers,
    Sockets,
    Status,
    Streams,
    Tails,
    make_app,
)
from millstream.gateway.ingest.deduplication import Deduplication
from millstream.gateway.ingest.ingest import Ingest
from millstream.gateway.listeners.auth import Authenticator, UserAuthenticator
from millstream.gateway.listeners.holding import HoldingAuthenticator
from millstream.gateway.listeners.mqtt_listener import MqttListener
from millstream.gateway.listeners.policy import Policy
from millstream.gateway.measures import gateway_source
from millstream.gateway.pubsub.broker_topics import BrokerTopics
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.topics import Topics
from millstream.gateway.sessions.sessions import Sessions
from millstream.gateway.statistics import Statistics
from millstream.gateway.tally import Tally
from millstream.log import Log
from millstream.metrics import Sources
from millstream.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from millstream.allocation import Allocator
    from millstream.devices import Registry
    from millstream.gateway.devices.methods import Answer, Call
    from millstream.gateway.devices.reception import Reception
    from millstream.gateway.ingest.arrival_traces import ArrivalTraces

_log = logging.getLogger(__name__)

_STALLED_SECONDS = 10.0  # for a commit, which takes milliseconds: events come in, but nobody is answered
_LINGER = 2.0  # seconds that clients have to take their DISCONNECT when the server stops


class Gateway:
    """Listens for devices, and commits what they publish to the streams that capture it.

    `async with Gateway(log, settings, clock) as gateway:`, or `start` and `stop`. The log stays the caller's. Without
    an `authenticator`, users, passwords and rights are those of the settings; without a `tracer`, nothing is traced.
    With a `registry`, which stays the caller's too, its devices come in as well. `topics` is pub/sub for the rest of
    Millstream, `sources` what `/metrics` tells.

    `SettingsError` when nobody could connect; from `start`, when an address cannot be listened on."""

    def __init__(
        self,
        log: Log,
        settings: Settings,
        clock: Clock,
        authenticator: UserAuthenticator | None = None,
        tracer: Tracer | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._log = log
        self._settings = settings
        self._clock = clock
        self._statistics = Statistics(Tally(clock))
        fan_out = FanOut(self._statistics, clock)
        self._sessions = Sessions(settings, fan_out, self._statistics, clock)
        self.topics = Topics(fan_out, self._statistics, clock, self._sessions.keep)
        policy = Policy(settings)
        users = authenticator or _users_of(settings, policy, clock, others=registry is not None)
        others: Authenticator = users
        self._reception: Reception | None = None
        if registry is not None:
            from millstream.gateway.devices.reception import Reception  # with a database: not for those who need none

            make_key = not settings.allow_anonymous
            self._reception = Reception(
                registry, log, users, policy, fan_out, self.topics, clock, makes_first_key=make_key
            )
            others = self._reception.authenticator
        self._authenticator = HoldingAuthenticator(others, clock)
        seen = Deduplication(
            round(settings.log.deduplication_window.total_seconds() * SECOND), settings.log.deduplication_ids
        )
        self._ingest = Ingest(
            log,
            seen,
            self._statistics,
            clock,
            settings.limits.pending_bytes,
            fan_out.give,
            self._hold,
            self._sessions.commits,
            _traces_with(tracer, clock),
        )
        guests = self._reception.guests if self._reception is not None else None
        self._mqtt = MqttListener(
            settings,
            self._ingest,
            fan_out,
            self._sessions,
            self._authenticator,
            self._statistics,
            BrokerTopics(fan_out, self._statistics, self.statistics, clock),
            clock,
            guests,
            None if self._reception is None else self._reception.auditor.refuse,
        )
        self._readers = Readers(settings.limits.readers, clock)
        self._members = Members(log, self._readers, clock)
        self.sources = Sources()
        self.sources.add(gateway_source(self._statistics, self.statistics, self.unready))
        if self._reception is not None:
            self.sources.add(self._reception.measure)
        access = Access(self._authenticator)
        operations = [operation for part in self._parts() for operation in part.operations()]
        self.openapi = OpenApi(operations)
        """The document of what there is by HTTP."""
        self.operations = [*self.openapi.operations(), *operations]
        """What there is by HTTP."""
        app = make_app(self.operations, Sockets(log, access, self._readers).routes(), access, self._audit(), clock)
        self._http = HttpServer(app, settings.drain_timeout.total_seconds())
        self._committing: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended = asyncio.Event()
        self.listeners: list[tuple[str, int]] = []
        """Where the further listeners of the settings really listen."""
        self.mqtt_address: tuple[str, int] | None = None
        self.http_address: tuple[str, int] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Restore what was seen, and listen. `mqtt_address` and `http_address` tell where (None: turned off)."""
        try:
            await self._ingest.start(lambda state: self._sessions.start(self._log, state, self._ingest))
            self._committing = asyncio.get_running_loop().create_task(self._ingest.run())
            self._committing.add_done_callback(self._commits_ended)
            if self._reception is not None:
                await self._reception.start()
            if self._settings.mqtt:
                self.mqtt_address = await self._mqtt.start(self._settings.mqtt)
            further = self._settings.listeners
            if self._settings.http or any(each.protocol == "https" for each in further):
                self.http_address = await self._http.start(self._settings.http)
            self.listeners = [await self._mqtt.add(each, self._http.protocol) for each in further]
        except BaseException:
            await self.stop()
            raise
        if self._settings.allow_anonymous:
            _log.warning("anybody may connect to %s and %s: 'allow_anonymous' is set", *self._addresses())

    async def wait(self) -> None:
        """Return when the gateway has stopped. Raises what ended it if that was the log (`DiskFaultError`,
        `LogUnavailableError`, …): nothing is acknowledged any more, and the process should exit and recover."""
        await self._ended.wait()
        if self._committing is not None and self._committing.done() and not self._committing.cancelled():
            self._committing.result()

    async def stop(self) -> None:
        """Accept nothing more, commit and acknowledge what is under way, and end all connections. Idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._mqtt.stop_accepting()
        self._mqtt.hold(True)
        self._mqtt.intake.take()
        self._readers.end()
        self._authenticator.release()
        await self._http.stop()
        await self._members.close()
        self._sessions.settle()
        if self._committing is not None:
            await self._drain(self._committing)
        await self._mqtt.close(_LINGER)
        if self._reception is not None:
            await self._reception.close()
        self._authenticator.close()
        await self._sessions.close()
        await self._ingest.close()
        self._ended.set()

    async def publish(self, topic: str, contents: Sequence[tuple[bytes, Attributes]]) -> int:
        """Take events (payload and attributes) in, as a listener does. Returns when they are committed: how many were
        duplicates. `LogUnavailableError`: the outcome is unknown."""
        return await self._ingest.publish(topic, contents)

    async def call_device(self, call: Call) -> Answer:
        """Call a direct method; see `Methods.call`."""
        if self._reception is None:
            raise DeviceOfflineError("this gateway has no registry, and so no device to call")
        return await self._reception.methods.call(call)

    def allocate_with(self, allocator: Allocator) -> None:
        """Ask this about devices whose enrollment lets an application decide."""
        if self._reception is not None:
            self._reception.provisioning.allocator = allocator

    @property
    def first_key(self) -> str | None:
        """The text of an admin's API key, where the registry had none before the start. It is told nowhere else."""
        return None if self._reception is None else self._reception.first_key

    def statistics(self) -> dict[str, Any]:
        """What happened since the start; see `Statistics`."""
        return self._statistics.report(
            connected=self._mqtt.connected,
            readers=self._readers.count,
            sessions=len(self._sessions),
            retained=len(self._sessions.retained),
            gathered=len(self._ingest.gathering),
            pending=self._ingest.pending,
            pending_bytes=self._ingest.pending_bytes,
        )

    def unready(self) -> str | None:
        """Why no event can be taken at the moment; None if all is well."""
        if self._stopping or self._committing is None or self._committing.done():
            return "the gateway is not running"
        if self._ingest.disk_full:
            return "the disk is full"
        if self._ingest.writing_seconds > _STALLED_SECONDS:
            return f"a commit has been under way for {self._ingest.writing_seconds:.0f} s; is the log well?"
        return None

    def _audit(self) -> Audit:
        """What becomes of requests, for the audit log."""
        return Audit(None if self._reception is None else self._reception.auditor)

    def _parts(self) -> list[Part]:
        bodies = Bodies(self._settings.limits)
        tails = Tails(self._log, self._readers)
        return [
            *(self._reception.parts(bodies) if self._reception is not None else ()),
            Publishing(self._ingest, bodies, self._statistics),
            Health(self.unready),
            Status(self.statistics),
            tails,
            Events(self._log),
            Pages(self._log, self._readers, tails),
            Streams(self._log),
            Groups(self._log, self._readers, bodies, self._members),
            Metrics(self.sources, self._settings.metrics.anonymous),
        ]

    def _hold(self, held: bool) -> None:
        self._mqtt.hold(held)

    def _addresses(self) -> tuple[str, str]:
        found = [f"{where[0]}:{where[1]}" if where else "-" for where in (self.mqtt_address, self.http_address)]
        return found[0], found[1]

    def _commits_ended(self, task: asyncio.Task[None]) -> None:
        """The log cannot go on: cut everybody off, so that they send again to whoever recovers."""
        if task.cancelled():
            return
        _log.critical("the gateway cannot commit any more: %s", task.exception())
        self._ingest.abandon()
        self._mqtt.abort()
        self._ended.set()

    async def _drain(self, committing: asyncio.Task[None]) -> None:
        """Wait for the last commits, as long as the settings allow."""
        drained = asyncio.ensure_future(self._ingest.drain())
        too_late = asyncio.ensure_future(self._clock.sleep(self._settings.drain_timeout.total_seconds()))
        await asyncio.wait([drained, too_late, committing], return_when=asyncio.FIRST_COMPLETED)
        for task in (drained, too_late, committing):
            task.cancel()
        await asyncio.gather(drained, too_late, committing, return_exceptions=True)
        self._ingest.abandon()


def _users_of(settings: Settings, policy: Policy, clock: Clock, *, others: bool) -> UserAuthenticator:
    hashes = {name: user.password for name, user in settings.users.items()}
    others = others or any(each.client_ca for each in settings.listeners)
    return UserAuthenticator(hashes, settings.allow_anonymous, clock, policy.rights, others=others)


def _traces_with(tracer: Tracer | None, clock: Clock) -> ArrivalTraces | None:
    if tracer is None:
        return None
    from millstream.gateway.ingest.arrival_traces import ArrivalTraces

    return ArrivalTraces(tracer, clock)
