"""From arrivals to commits: the loop that keeps the promise to every event.

Whatever has arrived while the last commit was running is the next batch, committed in one transaction with the ids that
it brought. Then acknowledgements are written, then subscribers get it, then HTTP requests are answered. So a quiet
gateway commits single events within milliseconds and a busy one thousands at a time, with nothing to tune. The next
batch is handed to the log before the last one is acknowledged, so that its fsync runs meanwhile.

Events that no stream captures are given to subscribers before the commit of their batch, and acknowledged with it,
so that PUBACKs stay in order (MQTT 5.0, 4.6).
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from millstream.clock import Clock, Micros
from millstream.errors import DiskFullError, LogUnavailableError, UnknownStreamError
from millstream.gateway.attributes import Attributes
from millstream.gateway.deduplication import Deduplication, Remembered
from millstream.gateway.gathering import Gathering, Publisher
from millstream.gateway.sealed import Sealed
from millstream.gateway.statistics import Statistics
from millstream.gateway.topic_table import TopicTable
from millstream.log import Group, Log, Router, StreamSpec, Transaction, distribute
from millstream.mqtt import Properties

_log = logging.getLogger(__name__)

GROUP = "$gateway"  # a group without streams, whose state are the ids that were seen
_STATE = 0  # the partition number that such a group has

_FAILED = "the log failed before it had committed the event"
_FIRST_RETRY, _LAST_RETRY = 0.25, 8.0  # seconds between attempts while the disk is full


class Ingest:
    """Takes events in, commits them, and answers. `start`, then `run`; `close` after `run` has ended.

    `fan_out(sealed, captured, time)` gives the captured (or the other) events of a batch to subscribers. `hold(held)`
    is called with True when more than `pending_bytes` wait (stop reading), and with False when there is room again.
    """

    def __init__(
        self,
        log: Log,
        deduplication: Deduplication,
        statistics: Statistics,
        clock: Clock,
        pending_bytes: int,
        fan_out: Callable[[Sealed, bool, Micros], None],
        hold: Callable[[bool], None],
    ) -> None:
        self._log = log
        self._group: Group | None = None
        self._deduplication = deduplication
        self._statistics = statistics
        self._clock = clock
        self._limit = pending_bytes
        self._fan_out = fan_out
        self._hold = hold
        self._router = Router(())
        self._under_way: Sealed | None = None
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.gathering = Gathering(TopicTable())
        self._failed = False
        self.disk_full = False

    async def start(self) -> None:
        """Learn which streams there are, and which ids were seen."""
        self._group = await self._log.join(GROUP, [])
        gained: set[int] = set()
        while _STATE not in gained:
            gained.update((await self._group.poll(1)).gained)
        self._deduplication.restore(await self._group.state(_STATE))
        self.use(await self._log.streams())
        self._log.watch_streams(self.use)

    async def close(self) -> None:
        """Give the ids up."""
        if self._group is not None:
            await self._group.leave()

    @property
    def pending(self) -> int:
        """Events that are not committed yet."""
        return len(self.gathering) + (len(self._under_way) if self._under_way else 0)

    @property
    def pending_bytes(self) -> int:
        """What they cost."""
        return self.gathering.size + (self._under_way.gathering.size if self._under_way else 0)

    def use(self, streams: Mapping[str, StreamSpec]) -> None:
        """Capture for these streams from the next batch on."""
        self._router = Router(streams.values())

    def came(self, publisher: Publisher, rows_before: int, size: int, acks: list[bytes]) -> None:
        """A connection has added to `gathering.arrivals`. See `Gathering.came`."""
        gathering = self.gathering
        gathering.came(publisher, rows_before, size, acks)
        self._statistics.received += len(gathering) - rows_before
        self._wake()

    async def publish(self, events: Sequence[tuple[str, bytes, Attributes]]) -> int:
        """Take events in together, once there is room. Returns when they are committed: how many were duplicates.

        `LogUnavailableError`: the outcome is unknown."""
        await self._room.wait()
        if self._failed:
            raise LogUnavailableError(_FAILED)
        if not events:
            return 0
        gathering = self.gathering
        start = len(gathering)
        for topic, payload, attributes in events:
            gathering.add(topic, payload, attributes)
        self._statistics.received += len(events)
        self._wake()
        return await gathering.wait(range(start, len(gathering)))

    def put(self, topic: str, payload: bytes, qos: int, properties: Properties) -> None:
        """Take in an event that nobody waits for: a will."""
        self.gathering.add(topic, payload, qos=qos, properties=properties)
        self._statistics.received += 1
        self._wake()

    async def drain(self) -> None:
        """Return when everything that has come is committed and answered."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit for ever. Raises what the log raises when it cannot go on; nothing of that batch is acknowledged."""
        finished: tuple[Sealed, Micros] | None = None
        while True:
            sealed = self._seal() if len(self.gathering) else None
            if sealed is not None:
                commit = asyncio.get_running_loop().create_task(self._commit(sealed))
                await asyncio.sleep(0)  # so that the log has it
            if finished is not None:
                self._answer(*finished)
                finished = None
            if sealed is not None:
                finished = sealed, await commit
            elif not len(self.gathering):
                self._idle.set()
                self._arrived.clear()
                await self._arrived.wait()

    def abandon(self) -> None:
        """After `run` has raised: tell those who wait for an answer that there will be none."""
        self._failed = True
        self._room.set()
        for gathering in (self._under_way.gathering if self._under_way else None, self.gathering):
            for waiter in gathering.waiters if gathering else ():
                if not waiter.duplicates.done():
                    waiter.duplicates.set_exception(LogUnavailableError(_FAILED))

    def _wake(self) -> None:
        self._arrived.set()
        self._idle.clear()
        if self.pending_bytes > self._limit and self._room.is_set():
            self._room.clear()
            self._hold(True)

    def _seal(self) -> Sealed:
        self._under_way = sealed = Sealed(self.gathering, self._router)
        table = self.gathering.table
        self.gathering = Gathering(TopicTable() if table.is_full else table)
        self._fan_out(sealed, False, self._clock.now())
        return sealed

    async def _commit(self, sealed: Sealed) -> Micros:
        time = self._clock.now()
        captured = sealed.captured
        remembered = self._deduplicate(sealed, time)
        duplicates = len(sealed.duplicates)
        if captured > duplicates:
            time = await self._write(sealed, remembered)
        self._under_way = None
        self._statistics.committed += captured - duplicates
        self._statistics.duplicates += duplicates
        self._statistics.transient += len(sealed) - captured
        return time

    def _deduplicate(self, sealed: Sealed, time: Micros) -> Remembered | None:
        rows, digests = sealed.ids()
        if not rows:
            return None
        remembered = self._deduplication.remember(digests, time)
        sealed.leave_out([row for row, first in zip(rows, remembered.first, strict=True) if not first])
        return remembered

    async def _write(self, sealed: Sealed, remembered: Remembered | None) -> Micros:
        """Commit, again and again while the disk is full: meanwhile nobody is acknowledged."""
        delay = _FIRST_RETRY
        while True:
            try:
                committed = await self._transaction(sealed, remembered).commit()
            except UnknownStreamError:  # dropped since the batch was routed
                self.use(await self._log.streams())
                sealed.route(self._router)
            except DiskFullError as error:
                _log.error("%s; %d events wait, and nothing is acknowledged until there is room", error, self.pending)
                self.disk_full = True
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)
            else:
                if self.disk_full:
                    _log.warning("there is room on the disk again")
                    self.disk_full = False
                self._statistics.commits += 1
                return committed.time

    def _transaction(self, sealed: Sealed, remembered: Remembered | None) -> Transaction:
        assert self._group is not None, "start comes first"
        transaction = self._group.transaction()
        for stream, partition, events in distribute(sealed.columns(), sealed.route_codes, sealed.routes):
            transaction.append(stream, partition, events)
        if remembered is not None:
            for name, chunk in remembered.saves.items():
                transaction.save(_STATE, name, chunk)
            for name in remembered.drops:
                transaction.drop(_STATE, name)
        return transaction

    def _answer(self, sealed: Sealed, time: Micros) -> None:
        for publisher, acks in sealed.gathering.acknowledgements.items():
            publisher.acknowledge(acks[0] if len(acks) == 1 else b"".join(acks))
        self._fan_out(sealed, True, time)
        duplicates = sealed.duplicates
        for waiter in sealed.gathering.waiters:
            if not waiter.duplicates.done():
                first, last = (bisect_left(duplicates, row) for row in (waiter.rows.start, waiter.rows.stop))
                waiter.duplicates.set_result(last - first)
        if not self._room.is_set() and self.pending_bytes <= self._limit // 2:
            self._room.set()
            self._hold(False)
