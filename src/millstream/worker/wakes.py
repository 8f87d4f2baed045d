"""When the keys of a partition are to be woken: what their states have asked for, and whose time has come."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import msgspec

from millstream.clock import Micros
from millstream.event import Batch, Event, Tick, placed, to_columns

PREFIX = "wake:"
"""The chunk that says when a key is woken is called by it, behind this."""


class Wake(msgspec.Struct, array_like=True, frozen=True):
    """When, and the topic of the event whose handler has asked for it: its levels are known then."""

    at: Micros
    topic: str


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Wake).decode


class Wakes:
    """Those of one partition. A key *rings* from the tick that its time has come with until it has been woken, or wants
    to be at another time. Calls in threads change it, each its own key."""

    def __init__(self, wakes: Mapping[str, Wake]) -> None:
        self._wakes = dict(wakes)
        self._order = [(wake.at, key) for key, wake in wakes.items()]  # a heap, also with what has changed since
        self._ringing: set[str] = set()
        heapq.heapify(self._order)

    @property
    def due(self) -> Micros | None:
        """When the next key is to ring."""
        while self._order and not self._stands(*self._order[0]):
            heapq.heappop(self._order)
        return self._order[0][0] if self._order else None

    def get(self, key: str) -> Wake | None:
        """What the key has asked for."""
        return self._wakes.get(key)

    def put(self, key: str, wake: Wake | None) -> None:
        """The key asks for something else, or nothing any more."""
        self._ringing.discard(key)
        if wake is None:
            self._wakes.pop(key, None)
        else:
            self._wakes[key] = wake
            heapq.heappush(self._order, (wake.at, key))

    def rings(self, key: str) -> bool:
        """Whether it is still to be woken."""
        return key in self._ringing

    def ring(self, until: Micros) -> dict[str, Wake]:
        """The keys whose time has come."""
        found = {}
        while (due := self.due) is not None and due <= until:
            _, key = heapq.heappop(self._order)
            self._ringing.add(key)
            found[key] = self._wakes[key]
        return found

    def _stands(self, at: Micros, key: str) -> bool:
        wake = self._wakes.get(key)
        return wake is not None and wake.at == at and key not in self._ringing


def wakes_of(chunks: Mapping[str, bytes]) -> dict[str, Wake]:
    """What keys have asked for, from the state that a handler's group has saved."""
    return {name.removeprefix(PREFIX): _decode(chunk) for name, chunk in chunks.items() if name.startswith(PREFIX)}


def woken(batch: Batch, tick: Tick, wakes: Mapping[str, Wake]) -> Batch:
    """Keys that ring with a tick of a batch, as if each were an event without a payload at the tick's place."""
    columns = to_columns(Event(topic=wake.topic, key=key, payload=b"") for key, wake in wakes.items())
    events = placed(columns, [tick.offset] * len(wakes), [tick.time] * len(wakes))
    return Batch(batch.stream, batch.partition, events, tick.offset)
