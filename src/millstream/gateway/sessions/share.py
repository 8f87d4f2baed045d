"""A shared subscription (4.8.2): its members share one position in the queue, and each message goes to one of them.

Members take turns, as their windows have room. While nobody is there, messages wait, if a member's session is kept.
What a member had not acknowledged when its session ended goes to the others (at QoS 2 it does not: 4.8.2-5).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import msgspec

from millstream.gateway.sessions.page import Page
from millstream.gateway.sessions.queue import Queue
from millstream.mqtt import Granted

if TYPE_CHECKING:
    from millstream.gateway.sessions.kept import Kept

SHARE = "share/"

_AHEAD = 256


class _Chunk(msgspec.Struct, array_like=True):
    next: int
    returned: list[int]


class Share:
    """A shared subscription by its `name`, `$share/GROUP/FILTER`."""

    def __init__(self, name: str, next_offset: int) -> None:
        self.name = name
        self.filter = name.split("/", 2)[2]
        self.members: dict[Kept, Granted] = {}  # the next one in turn first
        self.page = Page()
        self._next = next_offset
        self._returned = array("q")  # offsets that a member did not finish, ascending

    @property
    def next(self) -> int:
        """The lowest offset that it may still need."""
        return min(self._next, self._returned[0]) if self._returned else self._next

    @property
    def is_kept(self) -> bool:
        """Whether a member's session is."""
        return any(member.memory.durable for member in self.members)

    def peek(self, queue: Queue) -> int | None:
        """The next offset to be given to somebody."""
        if self._returned:
            return self._returned[0]
        lane = queue.lanes.get(self.filter)
        ahead = lane.after(self._next, 1) if lane is not None else None
        return ahead[0] if ahead else None

    def take(self, offset: int) -> None:
        """Somebody has it."""
        if self._returned and self._returned[0] == offset:
            self._returned.pop(0)
        else:
            self._next = offset + 1

    def give_back(self, offset: int) -> None:
        """Somebody did not finish it."""
        if offset not in self._returned:
            insort(self._returned, offset)

    def wanted(self, offset: int, queue: Queue) -> list[int]:
        """What to read, from an offset on."""
        returned = self._returned[bisect_left(self._returned, offset) :][:_AHEAD]
        lane = queue.lanes.get(self.filter)
        ahead = lane.after(max(offset, self._next), _AHEAD) if lane is not None else ()
        return sorted({offset, *returned, *ahead})

    def backlog(self, queue: Queue, offset: int) -> int:
        """How many bytes wait for its members from an offset on, besides what one of them did not finish."""
        lane = queue.lanes.get(self.filter)
        return lane.size(max(offset, self._next)) if lane is not None else 0

    def overtaken(self, queue: Queue, first: int) -> int:
        """Go on from `first`. How many messages are lost by that."""
        lane = queue.lanes.get(self.filter)
        lost = lane.count(self._next, first) if lane is not None else 0
        self._next = max(self._next, first)
        return lost

    def choose(self) -> Kept | None:
        """Whose turn it is, among those who can take a message now."""
        for member in self.members:
            connection = member.connection
            if connection is not None and connection.has_room and not member.is_holding:
                self.members[member] = self.members.pop(member)
                return member
        return None

    def chunk(self) -> bytes:
        """As it is kept. What is under way to sessions that are not kept counts as not given: they do not outlive
        the server."""
        open_flights = [
            flight.offset
            for member in self.members
            if not member.memory.durable
            for flight in (member.memory.flights or {}).values()
            if flight.share == self.name
        ]
        return msgspec.msgpack.encode(_Chunk(self._next, sorted({*self._returned, *open_flights})))

    def restore(self, chunk: bytes) -> None:
        """Take on what was committed."""
        its = msgspec.msgpack.decode(chunk, type=_Chunk)
        self._next, self._returned = its.next, array("q", its.returned)
