"""Workers on the real log, in memory, on a virtual clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from tests.support.clock import RestingClock
from tests.support.streams import eventually, publish, read_all
from tests.support.topics import RecordedTopics

from millstream.app import DEAD_LETTERS, App
from millstream.clock import SECOND
from millstream.event import Event, encode_payload
from millstream.log import GroupStatus, Log
from millstream.log.sqlite import SqliteLog
from millstream.settings import Settings
from millstream.testing.rest import rest
from millstream.worker import Worker


@dataclass
class Plant:
    """Everything around the workers of a test."""

    clock: RestingClock
    log: SqliteLog
    topics: RecordedTopics = field(init=False)
    workers: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topics = RecordedTopics(self.clock)
        self.log.on_show(self.topics.publish)
        self.clock.attend(self.log, self._is_busy)

    async def start(self, app: App, log: Log | None = None) -> Worker:
        """Start another instance of the app."""
        worker = Worker(app, log or self.log, self.topics, self.clock, Settings())
        self.workers.append(worker)
        await worker.start()
        return worker

    async def stop(self, worker: Worker, drain: timedelta | None = None) -> None:
        self.workers.remove(worker)
        await worker.stop(drain)
        await worker.run()

    async def publish(self, *messages: tuple[str, object]) -> None:
        """Publish data on topics, as the gateway does."""
        events = []
        for topic, data in messages:
            payload, content_type = encode_payload(data)
            events.append(Event(topic=topic, payload=payload, content_type=content_type))
        await publish(self.log, events)

    async def read(self, stream: str) -> list[Event]:
        return await read_all(self.log, stream)

    async def dead_letters(self) -> list[Event]:
        return await self.read(DEAD_LETTERS)

    async def group(self, name: str) -> GroupStatus:
        return next(group for group in await self.log.groups() if group.name.endswith(name))

    async def counts(self, name: str) -> Mapping[str, int]:
        return (await self.group(name)).counts

    async def caught_up(self, name: str) -> None:
        """Return when the group has no lag."""

        async def no_lag() -> bool:
            group = await self.group(name)
            return not any(group.lag.values()) and not any(position.done for position in group.positions.values())

        await self.pass_time_until(no_lag, f"group {name!r} without lag")

    async def someone_sleeps(self, seconds: float) -> None:
        """Return when somebody has begun to wait until so many seconds from now."""
        due = self.clock.now() + round(seconds * SECOND)
        await eventually(lambda: any(at == due for at, _, woken in self.clock._sleepers if not woken.done()))

    async def settle(self) -> None:
        """Let everything run that can without waiting for time or for a thread."""
        await rest()

    def _is_busy(self) -> bool:
        """With handlers that are not `async`, or with a step of the engine."""
        processors: list[Any] = [processor for worker in self.workers for processor in worker._processors]
        return any(processor._threads._busy for processor in processors)

    async def pass_time_until(self, condition: Callable[[], object | Awaitable[object]], what: str = "it") -> None:
        """Let time pass until the condition holds: a tenth of a second after the other."""

        async def check() -> bool:
            found = condition()
            found = await found if isinstance(found, Awaitable) else found
            if not found:
                await self.clock.advance(0.1)
            return bool(found)

        await eventually(check, what)


def numbers(events: list[Event]) -> list[int]:
    """The field `n` of each payload."""
    return [msgspec.json.decode(event.payload)["n"] for event in events]
