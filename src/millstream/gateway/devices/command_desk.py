"""Queued commands by MQTT, under a device's own topics (`root_of` it):

    commands/{command}           to the device: the command's payload
    commands/{command}/done      the device has done it
    commands/{command}/reject    it will not; the payload may say why, in JSON

A device gets its first commands when it subscribes, in order, and the next ones as it settles them; what it does not
settle within a minute, or before its connection ends, it gets again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from millstream.clock import Clock
from millstream.devices import Command, Commands, Happened, Name, Registry, What
from millstream.errors import MillstreamError
from millstream.event import Event
from millstream.event_json import NO_JSON
from millstream.gateway.devices.guests import Guest, Guests
from millstream.gateway.devices.inbox import Inbox, Request, root_of
from millstream.gateway.pubsub.topics import Topics
from millstream.topic import filter_matches

_log = logging.getLogger(__name__)

_SWEEP_SECONDS = 5.0  # between looks at what has expired, or was not settled in time
_SETTLED = {"done": What.DELIVERED, "reject": What.REJECTED}
_MOST_REASON = 1_024  # bytes of why a command is rejected


class CommandDesk:
    """Gives devices their commands, and takes what became of them. `start`, then `close`."""

    def __init__(
        self, registry: Registry, commands: Commands, guests: Guests, inbox: Inbox, topics: Topics, clock: Clock
    ) -> None:
        self._commands = commands
        self._guests = guests
        self._topics = topics
        self._clock = clock
        self._polls: defaultdict[Name, set[asyncio.Event]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._queued = False  # something, since the last look
        inbox.serve("commands", self._take)
        guests.watch(self._listens)
        registry.watch(self._changed)

    def start(self) -> None:
        """Look after what was queued before."""
        self._sweep_soon()

    async def close(self) -> None:
        """End what runs."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def poll(self, name: Name, seconds: float) -> list[Command]:
        """What a device should get now; waits for a command where there is none. `UnknownDeviceError`."""
        deadline = self._clock.monotonic() + seconds
        came = asyncio.Event()
        self._polls[name].add(came)
        try:
            while not (found := await self._commands.take(name)):
                left = deadline - self._clock.monotonic()
                if left <= 0:
                    break
                timer = asyncio.ensure_future(self._clock.sleep(left))
                waiting = asyncio.ensure_future(came.wait())
                try:
                    await asyncio.wait((timer, waiting), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    timer.cancel()
                    waiting.cancel()
                came.clear()
            return found
        finally:
            self._polls[name].discard(came)
            if not self._polls[name]:
                del self._polls[name]

    def _take(self, request: Request) -> None:
        if len(request.words) == 2 and request.words[1] in _SETTLED:
            self._spawn(self._settle(request.name, request.words[0], _SETTLED[request.words[1]], request.payload))

    async def _settle(self, name: Name, command_id: str, outcome: What, payload: bytes) -> None:
        try:
            await self._commands.settle(name, command_id, outcome, reason_in(payload))
        except MillstreamError as error:  # expired meanwhile, or settled twice
            _log.debug("device %r settles a command: %s", str(name), error)

    def _listens(self, guest: Guest, name: Name, mqtt_filter: str) -> None:
        if filter_matches(mqtt_filter, f"{root_of(name)}/commands/x"):
            self._spawn(self._give(name, anew=True))

    def _changed(self, happened: Sequence[Happened]) -> None:
        for each in happened:
            if each.what is What.QUEUED:
                self._sweep_soon()
            if each.what is What.QUEUED or each.what in _SETTLED.values():
                if self._guests.find(each.name, f"{root_of(each.name)}/commands/x") is not None:
                    self._spawn(self._give(each.name))
                for came in self._polls.get(each.name, ()):
                    came.set()

    async def _give(self, name: Name, *, anew: bool = False) -> None:
        """Send a device that is there what it should get now."""
        root = f"{root_of(name)}/commands"
        guest = self._guests.find(name, f"{root}/x")
        if guest is None:
            return
        try:
            for command in await self._commands.take(name, anew=anew):
                event = Event(topic=f"{root}/{command.id}", payload=command.payload, content_type="application/json")
                self._topics.give(guest, event)  # what is lost on the way comes again
        except MillstreamError as error:  # the registry does not answer; the sweep tries again
            _log.debug("commands for device %r wait: %s", str(name), error)

    def _sweep_soon(self) -> None:
        self._queued = True
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def _sweep(self) -> None:
        """While any command waits."""
        while True:
            self._queued = False
            try:
                if not await self._commands.expire() and not self._queued:
                    return
                for name in await self._commands.unsettled():
                    await self._give(name)
            except MillstreamError as error:
                _log.error("queued commands wait: %s", error)
            await self._clock.sleep(_SWEEP_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def reason_in(payload: bytes) -> Any:
    """Why a command is rejected, as far as it can be read."""
    if not payload or len(payload) > _MOST_REASON:
        return None
    try:
        return msgspec.json.decode(payload)
    except NO_JSON:
        return payload.decode("utf-8", "backslashreplace")
