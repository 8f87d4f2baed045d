"""Twins by MQTT, under a device's own topics (`root_of` it):

    twin/get[/REQUEST]         the device asks for its twin
    twin/reported[/REQUEST]    the device reports, with a merge patch
    twin/answer[/REQUEST]      what becomes of it
    twin/desired               all of desired: when the device subscribes, and after every change

Desired comes as a whole, so that a device that was away, or has missed something, needs nothing else; a `version` below
the one that it has, which a session that is kept may bring late, it leaves out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from millstream.devices import Happened, Name, Registry, Report, Side, Twins, What
from millstream.errors import MillstreamError, PayloadError
from millstream.event import Event, to_columns
from millstream.event_json import NO_JSON
from millstream.gateway.devices.guests import Guest, Guests
from millstream.gateway.devices.inbox import Inbox, Request, root_of
from millstream.gateway.pubsub.topics import Topics
from millstream.topic import filter_matches

_JSON = "application/json"


class TwinDesk:
    """Answers devices, and tells them what they should be."""

    def __init__(self, registry: Registry, twins: Twins, guests: Guests, inbox: Inbox, topics: Topics) -> None:
        self._twins = twins
        self._inbox = inbox
        self._topics = topics
        self._tasks: set[asyncio.Task[None]] = set()
        inbox.serve("twin", self._take)
        guests.watch(self._listens)
        registry.watch(self._changed)

    async def close(self) -> None:
        """Finish what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, request: Request) -> None:
        match request.words:
            case ("get", *number):
                work = self._get(request.name)
            case ("reported", *number):
                work = self._report(request)
            case _:
                return
        self._inbox.answer("/".join((root_of(request.name), "twin", "answer", *number)), work)

    async def _get(self, name: Name) -> Mapping[str, Any]:
        return (await self._twins.get(name)).sides.shown()

    async def _report(self, request: Request) -> Mapping[str, Any]:
        try:
            patch = msgspec.json.decode(request.payload, type=dict[str, Any])
        except NO_JSON as error:
            raise PayloadError(f"what is reported is no JSON object: {error}") from None
        sides = await self._twins.report(Report(request.name, patch))
        return {"version": sides.reported.version}

    def _changed(self, happened: Sequence[Happened]) -> None:
        """Tell those who listen, and the sessions that are kept for them."""
        events = [
            _desired(each.name, each.side) for each in happened if each.what is What.DESIRED and each.side is not None
        ]
        if events:
            self._topics.publish(to_columns(events))

    def _listens(self, guest: Guest, name: Name, mqtt_filter: str) -> None:
        if filter_matches(mqtt_filter, f"{root_of(name)}/twin/desired"):
            task = asyncio.get_running_loop().create_task(self._tell(guest, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, guest: Guest, name: Name) -> None:
        """By its connection alone, at QoS 0: if that breaks, the next one begins with the same."""
        try:
            desired = (await self._twins.get(name)).sides.desired
        except MillstreamError:  # it is deleted, or comes again when the registry answers
            return
        if desired.version:
            self._topics.give(guest, _desired(name, desired))


def _desired(name: Name, side: Side) -> Event:
    content = {"version": side.version, "desired": side.content}
    return Event(topic=f"{root_of(name)}/twin/desired", payload=msgspec.json.encode(content), content_type=_JSON)
