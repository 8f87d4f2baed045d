"""From the queue to the connections of sessions that are kept.

A connection gets what its window has room for and its socket takes; the rest stays on disk. What has just been
committed is at hand for those who keep up; who lags reads pages of its own, one at a time. A message of QoS 1 goes out
at once: after a crash it may come again. One of QoS 2 goes out when its packet identifier is on disk, since only
under the same one may it come again (4.3.3).
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

from millstream.clock import Clock
from millstream.errors import LogError
from millstream.gateway.sessions.kept import Kept, Wanted
from millstream.gateway.sessions.queue import Queue
from millstream.gateway.sessions.queued import Queued
from millstream.gateway.sessions.share import Share
from millstream.gateway.statistics import Statistics
from millstream.mqtt import Flight, Message, Reason, encode
from millstream.mqtt.packet import Pubrel

if TYPE_CHECKING:
    from millstream.gateway.listeners.connection import Connection

_log = logging.getLogger(__name__)

_ROUND_BYTES = 64 << 10  # between two looks at the socket
_READS = 8  # pages that are being read at a time
_NOTHING = Wanted(0, False, False, ())


class Absent(enum.Enum):
    """Why a message is not at hand."""

    READING = "reading"  # it is on its way
    GONE = "gone"  # retention has taken it


Held = list[tuple[Message, int]]
"""Messages that wait until their packet identifiers are on disk."""


class Pump:
    """Moves messages. `moved(puller)` is told of what should be on disk sooner or later, `hold(kept, send)` of what
    must be before `send` is called, and `lost(puller, count)` of what retention took.
    `resume(kept)` is called when a session can get more."""

    def __init__(
        self,
        queue: Queue,
        statistics: Statistics,
        clock: Clock,
        moved: Callable[[Kept | Share], None],
        hold: Callable[[Kept, Callable[[], None]], None],
        lost: Callable[[Kept | Share, int], None],
        resume: Callable[[Kept], None],
    ) -> None:
        self._queue = queue
        self._statistics = statistics
        self._clock = clock
        self._moved = moved
        self._hold = hold
        self._lost = lost
        self._resume = resume
        self._reads = asyncio.Semaphore(_READS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Read no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, kept: Kept) -> None:
        """Send a session what can be sent now."""
        connection = kept.connection
        while connection is not None and connection.takes_messages and not (kept.page.is_reading or kept.is_holding):
            held: Held = []
            more = self._fill(kept, connection, held)
            self._finish(kept, connection, held)
            if not more:
                break

    def share(self, share: Share) -> None:
        """Give the members of a shared subscription what they can take now."""
        given: dict[Kept, Held] = {}
        left = _ROUND_BYTES
        while not share.page.is_reading:
            offset = share.peek(self._queue)
            found = self._find(share, offset) if offset is not None else Absent.READING
            if offset is None or found is Absent.READING:
                break
            member = share.choose()
            if member is None or member.connection is None:
                break
            share.take(offset)
            self._moved(share)
            left -= self._give(share, member, member.connection, found, given.setdefault(member, []))
            if left <= 0:
                asyncio.get_running_loop().call_soon(self.share, share)
                break
        for member, held in given.items():
            if member.connection is not None:
                self._finish(member, member.connection, held)

    def _give(
        self, share: Share, member: Kept, connection: Connection, found: Queued | Literal[Absent.GONE], held: Held
    ) -> int:
        """Give a message to a member: its bytes."""
        if found is Absent.GONE:
            self._lost(share, 1)
            return 0
        if found.is_expired(self._clock.now()):
            self._statistics.expired += 1
            return 0
        qos = min(share.members[member].qos, found.post.qos)
        self._moved(member)
        return self._send(member, found, qos, connection, held, share.name)

    def _finish(self, kept: Kept, connection: Connection, held: Held) -> None:
        if held:
            kept.is_holding = True
            self._hold(kept, lambda: self._release(kept, connection, held))
        connection.flush()

    def _release(self, kept: Kept, connection: Connection, held: Held) -> None:
        if kept.connection is connection and connection.is_open:
            for message, packet_id in held:
                connection.session.outgoing.transmit(message, packet_id)
            connection.flush()
        kept.is_holding = False
        self._resume(kept)

    def _fill(self, kept: Kept, connection: Connection, held: Held) -> bool:
        """One round; whether there may be more."""
        left = _ROUND_BYTES
        while left > 0:
            sent = self._again(kept, connection) if kept.again else self._next(kept, connection, held)
            if sent is None:
                return False
            left -= sent
        return True

    def _again(self, kept: Kept, connection: Connection) -> int | None:
        """Send one again that an earlier connection left (4.4): its bytes, or None if that cannot be now."""
        outgoing, packet_id = connection.session.outgoing, kept.again[0]
        flight = kept.memory.flight(packet_id)
        if flight is None:
            kept.again.popleft()
            return 0
        if flight.released:
            kept.again.popleft()
            outgoing.resume()
            outgoing.send(encode(Pubrel(packet_id=packet_id), connection.version))
            return 4
        if outgoing.quota <= 0:
            return None
        found = self._find(kept, flight.offset)
        if found is Absent.READING:
            return None
        kept.again.popleft()
        if found is Absent.GONE:
            kept.memory.land(packet_id)
            self._lost(kept, 1)
            return 0
        message = self._encode(kept, found, flight.qos, connection, flight.share)
        if message.size > outgoing.largest:  # this connection takes less than the one before: it counts as sent (3.1.2)
            kept.memory.land(packet_id)
            self._moved(kept)
            self._statistics.dropped += 1
            return 0
        outgoing.resume()
        outgoing.transmit(message, packet_id, duplicate=True)
        return message.size

    def _next(self, kept: Kept, connection: Connection, held: Held) -> int | None:
        """Send the next one: its bytes, or None if that cannot be now."""
        ahead = kept.ahead(self._queue) if connection.session.outgoing.quota > 0 else None
        if not ahead:
            return None
        offset = ahead[0]
        found = self._find(kept, offset)
        if found is Absent.READING:
            return None
        kept.passed(offset)
        self._moved(kept)
        if found is Absent.GONE:
            self._lost(kept, 1)
            return 0
        qos = self._quality(kept, found)
        return self._send(kept, found, qos, connection, held) if qos else 0

    def _quality(self, kept: Kept, message: Queued) -> int:
        """At which QoS a session gets a message; 0 if it does not."""
        if message.session:
            return message.post.qos
        wanted = kept.wants(message.post.topic.name)
        if wanted is None or (wanted.no_local and message.publisher == kept.client_id):
            return 0
        if message.is_expired(self._clock.now()):
            self._statistics.expired += 1
            return 0
        return min(wanted.qos, message.post.qos)

    def _send(self, kept: Kept, found: Queued, qos: int, connection: Connection, held: Held, share: str = "") -> int:
        outgoing = connection.session.outgoing
        message = self._encode(kept, found, qos, connection, share)
        if message.size > outgoing.largest:
            self._statistics.dropped += 1
            return 0
        if not qos:
            connection.deliver(message, 0)
            return message.size
        packet_id = outgoing.reserve(Flight(qos, found.offset, share=share))
        if qos == 1:
            outgoing.transmit(message, packet_id)
        else:
            held.append((message, packet_id))
        self._statistics.delivered += 1
        return message.size

    def _encode(self, kept: Kept, found: Queued, qos: int, connection: Connection, share: str) -> Message:
        now = self._clock.now()
        if found.session:  # a retained message: its identifiers are with it
            return found.encode(connection.version, qos, (), True, now)
        if share:
            granted = kept.memory.subscriptions.get(share)
            wanted = _NOTHING if granted is None else Wanted.of([granted])
        else:
            wanted = kept.wants(found.post.topic.name) or _NOTHING
        retain = found.post.retain and wanted.retain_as_published
        return found.encode(connection.version, qos, wanted.identifiers, retain, now)

    # --- reading

    def _find(self, puller: Kept | Share, offset: int) -> Queued | Literal[Absent.READING, Absent.GONE]:
        found = self._queue.recent(offset) or puller.page.get(offset)
        if found is not None:
            return found
        if puller.page.covers(offset):
            return Absent.GONE
        puller.page.is_reading = True
        self._spawn(self._fetch(puller, puller.wanted(offset, self._queue)))
        return Absent.READING

    async def _fetch(self, puller: Kept | Share, wanted: list[int]) -> None:
        """Read a page, and go on."""
        try:
            async with self._reads:
                messages, end = await self._queue.read(wanted)
            puller.page.fill(messages, wanted[0], min(end, wanted[-1] + 1))
        except LogError as error:
            _log.error("messages that wait for a client cannot be read: %s", error)
            if isinstance(puller, Kept) and puller.connection is not None:
                puller.connection.end(Reason.UNSPECIFIED_ERROR, "its messages cannot be read")
            return
        finally:
            puller.page.is_reading = False
        if isinstance(puller, Kept):
            self.run(puller)
        else:
            self.share(puller)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
