"""Direct methods: call one on a device that is there, and wait for its answer.

    device/{id}/methods/{method}/{call}           to the device: the call's payload
    device/{id}/methods/{method}/{call}/answer    from the device: {"status": 200, "payload": …}

A call goes out at most once, at QoS 0, by one connection that has subscribed to such topics: nothing of it is kept for
later, and nothing is tried again. What became of it is an event in `$commands` before the caller is told.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from millstream.clock import Clock
from millstream.devices import Happened, Name, Registry, What
from millstream.devices.gathered import Gathered
from millstream.devices.name import check_id
from millstream.errors import (
    DeviceAnswerError,
    DeviceError,
    DeviceOfflineError,
    DeviceTimeoutError,
    MillstreamError,
    OverloadError,
)
from millstream.event import Event
from millstream.event_json import NO_JSON
from millstream.gateway.devices.guests import Guest, Guests
from millstream.gateway.devices.inbox import Inbox, Request, root_of
from millstream.gateway.pubsub.topics import Topics

_log = logging.getLogger(__name__)

_MOST = 10_000  # calls that are under way
MAX_PAYLOAD = 128 << 10  # as in Azure IoT Hub
RESPONSE_SECONDS = 30.0
MOST_SECONDS = 300.0


class Call(NamedTuple):
    """What is wanted of a device. `payload` is JSON, or empty; times are in seconds."""

    name: Name
    method: str
    payload: bytes = b""
    connect_timeout: float = 0.0
    """How long to wait for a device that is not there."""
    response_timeout: float = RESPONSE_SECONDS
    by: str | None = None


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What the device says: a status of its own, as HTTP has them, and anything."""

    status: int
    payload: Any = None


class Methods:
    """Calls, and gives the answers to who waits for them."""

    def __init__(self, registry: Registry, guests: Guests, inbox: Inbox, topics: Topics, clock: Clock) -> None:
        self._registry = registry
        self._guests = guests
        self._topics = topics
        self._clock = clock
        self._calls: dict[tuple[Name, str, str], asyncio.Future[bytes]] = {}
        self._absent: defaultdict[Name, set[asyncio.Event]] = defaultdict(set)
        self._under_way = 0
        self._records: Gathered[Happened, None] = Gathered(self._record, 2 * _MOST)
        inbox.serve("methods", self._take)
        guests.watch(self._listens)

    async def call(self, call: Call) -> Answer:
        """The device's answer. `UnknownDeviceError`; `DeviceError`: an impossible method or payload;
        `DeviceOfflineError`: it is not there, or takes no calls, and has not been called; `DeviceTimeoutError`: it did
        not answer in time, and may have done it; `DeviceAnswerError`: what it answered is none; `OverloadError`."""
        _check(call)
        if self._under_way >= _MOST:
            raise OverloadError(f"{_MOST} calls are under way; call again later")
        self._under_way += 1
        try:
            return await self._call(call)
        finally:
            self._under_way -= 1

    async def _call(self, call: Call) -> Answer:
        device = await self._registry.get(call.name)
        number, began = secrets.token_hex(8), self._clock.monotonic()
        outcome: dict[str, Any] = {"outcome": "abandoned"}
        try:
            answer = await self._answer(call, number)
            outcome = {"outcome": "answered", "status": answer.status}
            return answer
        except (DeviceOfflineError, DeviceTimeoutError, DeviceAnswerError) as error:
            outcome = {"outcome": _OUTCOMES[type(error)]}
            raise
        finally:
            details = {"method": call.method, "call": number, **outcome, "seconds": self._clock.monotonic() - began}
            await self._tell(call, device.generation, details)

    async def _answer(self, call: Call, number: str) -> Answer:
        topic = f"{root_of(call.name)}/methods/{call.method}/{number}"
        guest = await self._reach(call, topic)
        key = (call.name, call.method, number)
        answered = self._calls[key] = asyncio.get_running_loop().create_future()
        try:
            if not self._topics.give(guest, Event(topic=topic, payload=call.payload, content_type="application/json")):
                raise DeviceOfflineError(f"device {str(call.name)!r} does not read what it is sent; it was not called")
            if not await self._comes(answered, call.response_timeout):
                raise DeviceTimeoutError(
                    f"device {str(call.name)!r} has not answered within {call.response_timeout:g} s; it may have done "
                    "what was asked"
                )
        finally:
            del self._calls[key]
        try:
            return msgspec.json.decode(answered.result(), type=Answer)
        except NO_JSON as error:
            raise DeviceAnswerError(
                f'device {str(call.name)!r} has answered what is no {{"status": 200, "payload": …}}: {error}'
            ) from None

    async def _reach(self, call: Call, topic: str) -> Guest:
        """A connection of the device that takes the call; waits for one as long as the call says."""
        deadline = self._clock.monotonic() + call.connect_timeout
        while (guest := self._guests.find(call.name, topic)) is None:
            came = asyncio.Event()
            self._absent[call.name].add(came)
            try:
                waiting = asyncio.ensure_future(came.wait())
                there = await self._comes(waiting, deadline - self._clock.monotonic())
            finally:
                self._absent[call.name].discard(came)
                if not self._absent[call.name]:
                    del self._absent[call.name]
            if not there:
                raise DeviceOfflineError(
                    f"device {str(call.name)!r} is not connected, or has not subscribed to {root_of(call.name)}"
                    "/methods/+/+; it was not called"
                )
        return guest

    async def _comes(self, future: asyncio.Future[Any], seconds: float) -> bool:
        """Whether a future is done in time; it is cancelled if not."""
        if seconds <= 0:
            future.cancel()
            return False
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((future, timer), return_when=asyncio.FIRST_COMPLETED)
            return future.done()
        finally:
            timer.cancel()
            future.cancel()

    def _take(self, request: Request) -> None:
        if len(request.words) == 3 and request.words[2] == "answer":
            waiting = self._calls.get((request.name, request.words[0], request.words[1]))
            if waiting is not None and not waiting.done():
                waiting.set_result(request.payload)

    def _listens(self, guest: Guest, name: Name, mqtt_filter: str) -> None:
        for came in self._absent.get(name, ()):
            came.set()

    async def _tell(self, call: Call, generation: str, details: dict[str, Any]) -> None:
        happened = Happened(
            what=What.METHOD,
            name=call.name,
            generation=generation,
            time=self._clock.now(),
            details={**details, **({} if call.by is None else {"by": call.by})},
        )
        try:
            await self._records.do(happened)
        except MillstreamError as error:  # what has happened has happened: the caller shall know it
            _log.error("a call of %r on device %r is missing in $commands: %s", call.method, str(call.name), error)

    async def _record(self, those: Sequence[Happened]) -> list[Exception | None]:
        await self._registry.note(those, {})
        return [None] * len(those)


_OUTCOMES = {DeviceOfflineError: "offline", DeviceTimeoutError: "timeout", DeviceAnswerError: "no_answer"}


def _check(call: Call) -> None:
    check_id(call.method, "method")
    if len(call.payload) > MAX_PAYLOAD:
        raise DeviceError(f"a method's payload of {len(call.payload)} bytes; there may be {MAX_PAYLOAD}")
    if call.payload:
        try:
            msgspec.json.decode(call.payload)
        except NO_JSON as error:
            raise DeviceError(f"a method's payload is JSON: {error}") from None
