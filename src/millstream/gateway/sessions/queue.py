"""The queue of all sessions that are kept: a stream, which a message of QoS 1 or 2 enters once, whoever wants it.

What a session has to get is found by *lanes*: the offsets of what matches a filter, in memory, and shared by all
sessions that have that filter. A session has one position in the queue, so that neither the arrival of a message nor an
acknowledgement costs more for sessions that are away or far behind; and it reads only what it has to get. After a
restart the lanes are made again from the topics in the stream, from the lowest position on.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from millstream.event import to_columns
from millstream.gateway.sessions.queued import Queued, only_for
from millstream.log import Committed, Log, StreamSpec, Transaction
from millstream.topic import Trie

if TYPE_CHECKING:
    from millstream.gateway.sessions.kept import Kept
    from millstream.gateway.sessions.share import Share

NAME = "$sessions"
_PARTITION = 0

_RECENT_BYTES = 8 << 20  # of messages at hand without reading, which is what clients that keep up want
_READ_BYTES = 64 << 10  # for one session at a time
_REBUILD_BYTES = 4 << 20


class Lane:
    """The offsets of the messages that match a filter, ascending, as far back as one of its `users` may need them; and
    how many bytes there were up to the end of each."""

    __slots__ = ("_before", "_ends", "filter", "offsets", "users")

    def __init__(self, mqtt_filter: str) -> None:
        self.filter = mqtt_filter
        self.offsets = array("q")
        self._ends = array("q")
        self._before = 0  # bytes that are forgotten
        self.users: dict[Kept | Share, None] = {}

    def append(self, offset: int, size: int) -> None:
        """A message has entered the queue."""
        self._ends.append((self._ends[-1] if self._ends else self._before) + size)
        self.offsets.append(offset)

    def after(self, offset: int, count: int) -> array[int]:
        """At most so many offsets from `offset` on."""
        start = bisect_left(self.offsets, offset)
        return self.offsets[start : start + count]

    def count(self, start: int, end: int) -> int:
        """How many there are from one offset on, and below another."""
        return max(0, bisect_left(self.offsets, end) - bisect_left(self.offsets, start))

    def size(self, offset: int) -> int:
        """The bytes of those from `offset` on."""
        start = bisect_left(self.offsets, offset)
        if start == len(self.offsets):
            return 0
        return self._ends[-1] - (self._ends[start - 1] if start else self._before)

    def forget(self, offset: int) -> None:
        """Nobody needs those below `offset`."""
        start = bisect_left(self.offsets, offset)
        if start:
            self._before = self._ends[start - 1]
            del self.offsets[:start], self._ends[:start]


class Queue:
    """The stream and its lanes. `append`, then `put` with every attempt to commit, then `committed`."""

    def __init__(self, retention_age: timedelta, retention_bytes: int) -> None:
        self._spec = StreamSpec(NAME, partitions=1, retention_age=retention_age, retention_bytes=int(retention_bytes))
        self._log: Log | None = None
        self.exists = False
        self._waiting: list[tuple[Queued, Sequence[Lane]]] = []
        self._under_way: list[tuple[Queued, Sequence[Lane]]] = []
        self._recent: OrderedDict[int, Queued] = OrderedDict()
        self._recent_bytes = 0
        self.lanes: dict[str, Lane] = {}
        self.waiting_bytes = 0  # of messages that the next commit takes
        self.end = 0  # the offset that the next message gets

    async def open(self, log: Log) -> None:
        """Use the stream, if there is one."""
        self._log = log
        if NAME in await log.streams():
            await self.make()

    async def make(self) -> None:
        """Make the stream, or bring an old one up to date, and learn where it ends."""
        if not self.exists:
            await self._reading.create(self._spec)
            bounds = await self._reading.bounds(NAME, _PARTITION)
            if not self.exists:  # else another one was quicker, and more may have come since
                self.end = bounds.next
                self.exists = True

    async def rebuild(self, start: int, own: Callable[[str, int], None]) -> None:
        """Fill the lanes with what is in the stream from `start` on. `own(client_id, offset)` is called for what is
        for one session only."""
        trie: Trie[Lane] = Trie()
        for lane in self.lanes.values():
            trie.add(lane.filter, lane)
        found: dict[str, list[Lane]] = {}
        while start < self.end:
            batch = await self._reading.read(NAME, _PARTITION, start, limit_bytes=_REBUILD_BYTES)
            columns = (batch.events.column(name).to_pylist() for name in ("offset", "topic", "headers"))
            sizes = pc.binary_length(batch.events.column("data")).to_pylist()
            for offset, topic, headers, size in zip(*columns, sizes, strict=True):
                session = only_for(headers)
                if session:
                    own(session, offset)
                    continue
                if topic not in found:
                    found[topic] = trie.match(topic)
                for lane in found[topic]:
                    lane.append(offset, size)
            start = max(batch.next_offset, start + 1)

    # --- what comes in

    @property
    def is_under_way(self) -> bool:
        """Whether the next commit has anything to take."""
        return bool(self._under_way)

    def append(self, message: Queued, lanes: Sequence[Lane] = ()) -> None:
        """Take a message in with the next commit."""
        self._waiting.append((message, lanes))
        self.waiting_bytes += message.size

    def seal(self) -> None:
        """What was appended so far is what the next commit takes."""
        if self.exists:
            self._under_way, self._waiting = self._waiting, []
            self.waiting_bytes = 0

    def put(self, transaction: Transaction) -> None:
        """Append to the stream, as the last append of the transaction."""
        if self._under_way:
            events = (message.event() for message, _ in self._under_way)
            transaction.append(NAME, _PARTITION, to_columns(events))

    def committed(self, committed: Committed) -> list[tuple[Queued, Sequence[Lane]]]:
        """They are on disk: those that were, with their lanes."""
        done, self._under_way = self._under_way, []
        if done:
            for offset, (message, lanes) in enumerate(done, committed.first_offsets[-1]):
                message.offset, message.time = offset, committed.time
                for lane in lanes:
                    lane.append(offset, len(message.post.payload))
                self._keep(message)
            self.end = committed.first_offsets[-1] + len(done)
        return done

    def _keep(self, message: Queued) -> None:
        self._recent[message.offset] = message
        self._recent_bytes += message.size
        while self._recent_bytes > _RECENT_BYTES:
            _, oldest = self._recent.popitem(last=False)
            self._recent_bytes -= oldest.size

    # --- what goes out

    @property
    def held_bytes(self) -> int:
        """The bytes in all lanes together."""
        return sum(lane.size(0) for lane in self.lanes.values())

    async def first(self) -> int:
        """The lowest offset that retention has left."""
        return (await self._reading.bounds(NAME, _PARTITION)).first

    def recent(self, offset: int) -> Queued | None:
        """A message, if it is at hand."""
        return self._recent.get(offset)

    async def read(self, wanted: Sequence[int]) -> tuple[dict[int, Queued], int]:
        """Messages by offset, of those that are wanted (ascending, at least one), as many as one read brings; and the
        offset below which there are no others, since retention has taken them. Raises what the log raises."""
        batch = await self._reading.read(NAME, _PARTITION, wanted[0], limit_bytes=_READ_BYTES)
        wishes = set(wanted)
        found = {event.offset: Queued.of(event) for event in batch if event.offset in wishes}
        return found, batch.next_offset

    # --- lanes

    def join(self, user: Kept | Share, mqtt_filter: str) -> Lane | None:
        """Let a session or a shared subscription have the lane of a filter; the lane, if it is a new one."""
        lane = self.lanes.get(mqtt_filter)
        is_new = lane is None
        if lane is None:
            lane = self.lanes[mqtt_filter] = Lane(mqtt_filter)
        lane.users[user] = None
        return lane if is_new else None

    def leave(self, user: Kept | Share, mqtt_filter: str) -> Lane | None:
        """It has that filter no longer; the lane, if nobody has. Absent is fine."""
        lane = self.lanes.get(mqtt_filter)
        if lane is None or lane.users.pop(user, self) is self or lane.users:
            return None
        return self.lanes.pop(mqtt_filter)

    def forget(self) -> None:
        """Forget the offsets that every user of their lane has passed."""
        for lane in self.lanes.values():
            if lane.offsets:
                lane.forget(min(user.next for user in lane.users))

    @property
    def _reading(self) -> Log:
        assert self._log is not None, "start comes first"
        return self._log
