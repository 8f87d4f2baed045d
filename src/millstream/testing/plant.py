"""An app under test, with everything around it: the real log in memory, the real gateway without listeners, the real
workers, on a clock that moves when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, get_args

import msgspec

from millstream.app import DEAD_LETTERS, App
from millstream.app.outbox import make_event
from millstream.clock import SECOND, Micros, to_datetime, to_micros
from millstream.duration import Duration, seconds_of
from millstream.errors import MillstreamError
from millstream.event import Event
from millstream.gateway.attributes import Attributes
from millstream.log import GroupStatus
from millstream.testing.calls import Calls, PlantClock
from millstream.testing.failures import Failures
from millstream.testing.line import When
from millstream.testing.rig import Rig
from millstream.testing.script import Publish, Steps
from millstream.topic import Filter
from millstream.worker import Failure
from millstream.worker.states import states_of

_START = datetime(2026, 1, 1, tzinfo=UTC)


class Plant:
    """What `app.test()` gives; see `App.test` for the parameters. It is entered once.

    Whatever moves the plant (`publish`, `advance`, `crash`, `play`) returns when everything that follows from it has
    happened: handlers have returned, queries have stepped, outputs are committed. Only what waits for the plant's
    clock still waits. So asserts see everything, and never wait.

    An error in a handler, or an event that a query cannot read, is raised by the method that led to it."""

    def __init__(
        self,
        app: App,
        *,
        workers: int = 1,
        start: datetime | None = None,
        raise_errors: bool = True,
        patience: Duration = "10s",
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers}: somebody has to do the work")
        self._failures = Failures()
        calls = Calls(self._failures)
        self.clock = PlantClock(to_micros(start or _START), calls)
        self._opening = Rig.opened(app, self.clock, calls, workers=workers, patience=seconds_of(patience))
        self._raise_errors = raise_errors
        self._published: list[Event] = []
        self._wishes = self._settled = 0
        self._settling = asyncio.Lock()
        self._closing = AsyncExitStack()
        self._opened: Rig | None = None

    # --- what happens to it

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002 (the attribute's name in CloudEvents)
        key: str | None = None,
        type: str | None = None,  # noqa: A002
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Publish as a device does: into every stream that captures the topic, and to the subscribers of the moment.
        `data` is bytes, text, or anything that becomes JSON. False if the `id` was published on the topic before, so
        that the event is a duplicate. `TopicError`, and the errors of handlers."""
        __tracebackhide__ = True
        event = make_event(
            topic, data, id=id, key=key, type=type, content_type=content_type, headers=dict(headers or {})
        )
        its = Attributes(
            id=event.id, key=event.key, type=event.type, content_type=event.content_type, headers=event.headers
        )
        duplicates = await self._rig.gateway.publish(event.topic, [(event.payload, its)])
        await self.settle()
        return not duplicates

    async def advance(self, duration: Duration) -> None:
        """Let time pass: `"30s"`, a `timedelta`, or seconds. Whatever falls due on the way happens at its own time, and
        everything that follows from it, before time goes on."""
        __tracebackhide__ = True
        target = self.clock.now() + round(seconds_of(duration) * SECOND)
        await self._rig.come_to_rest()
        while (due := self.clock.next_due) is not None and due <= target:
            await self._set_clock(due)
            await self._rig.come_to_rest()
        await self._set_clock(target)
        await self.settle()

    async def crash(self, when: When = "now", *, worker: int | None = None) -> None:
        """Kill the workers as `kill -9` does, and start them again: they go on from the last commit. `worker` (from 0)
        is the only one to die.

        `"before commit"`: each dies when it next wants to commit, `"after commit"`: when it has, and does not know it
        yet. It is then an error if the test ends before that."""
        __tracebackhide__ = True
        if when not in get_args(When):
            raise ValueError(f"{when!r} is no moment to crash at; choose one of {', '.join(map(repr, get_args(When)))}")
        instances = self._rig.instances
        for instance in instances if worker is None else [instances[worker]]:
            if when == "now":
                await instance.kill()
            else:
                instance.will_die(when)
        await self.settle()

    async def play(self, steps: Steps) -> None:
        """Do one step after the other; a pair of a topic and data is published."""
        __tracebackhide__ = True
        for step in steps:
            await (Publish(*step) if isinstance(step, tuple) else step).play(self)

    async def settle(self) -> None:
        """Return when everything has happened that can before time passes. The other methods do it themselves; it is
        for tests that move things on their own. Raises the errors of handlers; `RestlessError`."""
        __tracebackhide__ = True
        self._wishes += 1
        wish = self._wishes
        async with self._settling:  # many may ask at once, and be served by one answer
            if self._settled < wish:
                served = self._wishes
                await self._rig.come_to_rest()
                await self._rig.record.read()
                self._settled = served
        if self._raise_errors:
            self._failures.tell()

    def answer_calls(self, device: str, method: str, answer: Any = None) -> None:
        """Have a device answer calls of a method from now on: with a payload (and the status 200), an `Answer`, an
        error that is raised at the handler, or what a function of the call's payload gives. Before that the device is
        not there: `DeviceOfflineError`."""
        self._rig.devices.answer(device, method, answer)

    async def put_device(
        self,
        device: str,
        *,
        tags: Mapping[str, Any] | None = None,
        desired: Mapping[str, Any] | None = None,
        reported: Mapping[str, Any] | None = None,
        status: Literal["enabled", "disabled"] = "enabled",
    ) -> None:
        """Have a device in the registry that the app joins with, in place of what is known of it. Queries find it when
        the reference's `refresh` has passed since the change before. `DeviceError`: a device cannot be like that."""
        __tracebackhide__ = True
        documents = [dict(its or {}) for its in (tags, desired, reported)]
        await self._rig.devices.registry.put(device, status, *documents)
        await self.settle()

    async def delete_device(self, device: str) -> None:
        """Take one away again. `UnknownDeviceError`."""
        __tracebackhide__ = True
        await self._rig.devices.registry.delete(device)
        await self.settle()

    # --- what it has come to

    @property
    def calls(self) -> Sequence[tuple[str, str, Any]]:
        """What devices were asked by handlers: the device, the method, and the payload."""
        return tuple(self._rig.devices.called)

    @property
    def now(self) -> datetime:
        """The plant's time. It begins at 2026-01-01T00:00:00Z, or as `start=` says."""
        return to_datetime(self.clock.now())

    def stream(self, name: str) -> list[Event]:
        """The events of a stream in the order in which they came. `UnknownStreamError`."""
        return self._rig.record.events(name)

    @property
    def alerts(self) -> list[Event]:
        """The events of the stream `alerts`."""
        return self.stream("alerts")

    def late(self, query: str) -> list[Event]:
        """The events that came too late for a query."""
        return self.stream(f"{query}.late")

    @property
    def dead_letters(self) -> list[Event]:
        """The events that could not be processed, with headers `dead-letter-…` that tell why."""
        return self.stream(DEAD_LETTERS)

    def published(self, topics: str = "#") -> list[Event]:
        """What a plain subscriber of the filter was given, from the beginning."""
        wanted = Filter.parse(topics)
        return [event for event in self._published if wanted.matches(event.topic)]

    def group(self, name: str) -> GroupStatus:
        """The consumer group of a handler (by its function's name is enough) or a query: positions, lag, members,
        counts. `LogError` if there is none."""
        return self._rig.record.group(name)

    def counts(self, name: str) -> Mapping[str, int]:
        """What became of the events that a handler or a query has read: `processed`, `late`, `dead-lettered`, …"""
        return self.group(name).counts

    async def states(self, name: str) -> dict[str, Any]:
        """What a handler keeps of each key, by key, as JSON's values. `LogError` if there is no such group."""
        group = self.group(name)
        found: dict[str, bytes] = {}
        for partition in sorted({partition for _, partition in group.positions}):
            found |= states_of(await self._rig.log.state(group.name, partition))
        return {key: msgspec.json.decode(saved) for key, saved in found.items()}

    @property
    def errors(self) -> Sequence[Failure]:
        """Every error of a handler, a subscription or a query, whether it was raised or not: `processor`, `where`,
        `error`, and what happened `then`."""
        return tuple(self._failures.all)

    # --- coming and going

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            self._opened = await opened.enter_async_context(self._opening)
            await self._rig.gateway.topics.subscribe("#", "$test", self._published.extend)
            await self.settle()
            self._closing = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        async with self._closing:
            if error is None:
                await self.settle()
                self._check_crashes()

    @property
    def _rig(self) -> Rig:
        if self._opened is None:
            raise MillstreamError("the plant is not running yet; write: async with app.test() as plant:")
        return self._opened

    async def _set_clock(self, instant: Micros) -> None:
        await self.clock.advance((instant - self.clock.now()) / SECOND)

    def _check_crashes(self) -> None:
        __tracebackhide__ = True
        if any(instance.is_doomed for instance in self._rig.instances):
            raise AssertionError("the test ends, and a worker that was to crash at its next commit has not committed")
