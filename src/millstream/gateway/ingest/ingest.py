"""From arrivals to commits: the loop that keeps the promise to every event.

Whatever has arrived while the last commit was running is the next batch, committed in one transaction with the ids that
it brought. Then acknowledgements are written, then subscribers get it, then HTTP requests are answered. So a quiet
gateway commits single events within milliseconds and a busy one thousands at a time, with nothing to tune.

Events that no stream captures are given to subscribers before the commit of their batch, and acknowledged with it,
so that PUBACKs stay in order (MQTT 5.0, 4.6).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from millstream.clock import Clock, Micros
from millstream.errors import DiskFullError, FencedError, LogUnavailableError, UnknownStreamError
from millstream.gateway.attributes import Attributes
from millstream.gateway.ingest.deduplication import Deduplication, Remembered
from millstream.gateway.ingest.gathering import Gathering
from millstream.gateway.ingest.routing import Routing
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.topic_table import TopicTable
from millstream.gateway.statistics import Statistics
from millstream.gateway.tally import put
from millstream.ledger.names import COMMITTED, DUPLICATES, GATEWAY, RECEIVED, TRANSIENT
from millstream.log import Committed, Group, Log, StreamSpec, Transaction, hear
from millstream.mqtt import Properties, Publisher

if TYPE_CHECKING:
    from millstream.gateway.ingest.arrival_traces import ArrivalTraces

_log = logging.getLogger(__name__)

_STATE = 0  # the partition number that such a group has

_OWNER = "owner"
"""The chunk that tells which gateway has committed last: ids and sessions in its memory are those of the log."""

_FAILED = "the log failed before it had committed the event"
_ECHO = 64  # events; fewer are not worth a wait
_QUIET_TURNS = 64  # of the event loop, of some 10 µs: what a client on the same machine needs for its answer
_FIRST_RETRY, _LAST_RETRY = 0.25, 8.0  # seconds between attempts while the disk is full


class Companion(Protocol):
    """What commits in the transactions of events, see `Commits`."""

    def prepare(self, sealed: Sealed) -> bool: ...
    def put(self, transaction: Transaction) -> None: ...
    def committed(self, committed: Committed) -> None: ...
    def answered(self) -> None: ...


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
        commits: Companion,
        traces: ArrivalTraces | None = None,
    ) -> None:
        self._log = log
        self._group: Group | None = None
        self._token = secrets.token_hex(8).encode()
        self._owner: bytes | None = None
        self._deduplication = deduplication
        self._statistics = statistics
        self._tally = statistics.tally
        self._clock = clock
        self._limit = pending_bytes
        self._most = pending_bytes  # that may gather beside what is under way
        self._fan_out = fan_out
        self._hold = hold
        self._commits = commits
        self._traces = traces
        self._streams: Mapping[str, StreamSpec] = {}
        self._under_way: Sealed | None = None
        self._awake = False  # events are there, and `run` knows
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.gathering = Gathering(TopicTable())
        self._routing = Routing({}, self.gathering.table)
        self._failed = False
        self._writing_since: float | None = None
        self.disk_full = False

    async def start(self, restore: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
        """Learn which streams there are, which ids were seen, and (`restore`, from the state) which sessions are
        kept."""
        self._group = await self._log.join(GATEWAY, [])  # without streams, for its state
        gained: set[int] = set()
        while _STATE not in gained:
            gained.update((await self._group.poll(1)).gained)
        state = dict(await self._group.state(_STATE))
        self._owner = state.pop(_OWNER, None)
        seen = {name: state.pop(name) for name in list(state) if name.isdecimal()}
        self._deduplication.restore(seen)
        await restore(state)
        self.use(await self._log.streams())
        self._log.watch_streams(self.use)
        self._tally.start(self._log, self._group)

    async def close(self) -> None:
        """Commit the last counts, and give the ids up."""
        if self._group is not None:
            await self._tally.close()
            await self._group.leave()

    @property
    def pending(self) -> int:
        """Events that are not committed yet."""
        return len(self.gathering) + (len(self._under_way) if self._under_way else 0)

    @property
    def pending_bytes(self) -> int:
        """What they cost."""
        return self.gathering.size + (self._under_way.gathering.size if self._under_way else 0)

    @property
    def writing_seconds(self) -> float:
        """How long the commit under way has taken so far; 0 if there is none."""
        return 0.0 if self._writing_since is None else self._clock.monotonic() - self._writing_since

    def use(self, streams: Mapping[str, StreamSpec]) -> None:
        """Capture for these streams from the next batch on."""
        self._streams = streams
        self._routing = Routing(streams, self.gathering.table)

    def came(self) -> None:
        """Something may have been added to `gathering.arrivals`."""
        if not self.gathering.is_empty:
            self._wake()

    async def publish(self, topic: str, contents: Sequence[tuple[bytes, Attributes]]) -> int:
        """Take events (payload and attributes) in together, once there is room. Returns when they are committed: how
        many were duplicates.

        `LogUnavailableError`: the outcome is unknown."""
        await self._room.wait()
        if self._failed:
            raise LogUnavailableError(_FAILED)
        if not contents:
            return 0
        rows = self.gathering.extend(topic, contents)
        self._wake()
        return await self.gathering.wait(rows)

    def put(self, topic: str, payload: bytes, qos: int, properties: Properties, *, retain: bool) -> None:
        """Take in an event that nobody waits for: a will."""
        self.gathering.arrivals.add(topic, qos, payload, properties, retain=retain)
        self._wake()

    def after_commit(self, done: Callable[[], None]) -> None:
        """Call `done` when everything that has come so far is on disk, and all that sessions have changed."""
        self.gathering.done.append(done)
        self._wake()

    async def drain(self) -> None:
        """Return when everything that has come is committed and answered."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit for ever. Raises what the log raises when it cannot go on; nothing of that batch is acknowledged."""
        while True:
            if self.gathering.is_empty:
                self._awake = False
                self._idle.set()
                self._arrived.clear()
                await self._arrived.wait()
            sealed = self._seal()
            time = await self._commit(sealed)
            if self._traces is not None:
                self._traces.committed(sealed)
            self._answer(sealed, time)
            if self._traces is not None:
                self._traces.end()
            await self._hear_echo(len(sealed) + len(self.gathering))

    async def _hear_echo(self, expected: int) -> None:
        """After a commit of many: whoever got an acknowledgement sends the next message at once, so wait for about as
        many, as long as some come in every few turns of the event loop. A commit costs much by itself and little by
        the event, so that it pays to commit them together."""
        if expected < _ECHO:
            return
        before = len(self.gathering)
        quiet_turns = 0
        while before < expected and quiet_turns < _QUIET_TURNS:
            await asyncio.sleep(0)
            now = len(self.gathering)
            quiet_turns = 0 if now > before else quiet_turns + 1
            before = now

    def abandon(self) -> None:
        """After `run` has raised: tell those who wait for an answer that there will be none."""
        self._failed = True
        self._room.set()
        if self._traces is not None:
            self._traces.abandon()
        for gathering in (self._under_way.gathering if self._under_way else None, self.gathering):
            for waiter in gathering.waiters if gathering else ():
                if not waiter.duplicates.done():
                    waiter.duplicates.set_exception(LogUnavailableError(_FAILED))

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._arrived.set()
            self._idle.clear()
        if self.gathering.size > self._most and self._room.is_set():
            self._room.clear()
            self._hold(True)

    def _seal(self) -> Sealed:
        self._under_way = sealed = Sealed(self.gathering, self._routing)
        if self.gathering.table.is_full:
            self._routing = Routing(self._streams, TopicTable())
        self.gathering = Gathering(self._routing.table)
        self._most = self._limit - sealed.gathering.size
        self._statistics.received += len(sealed)
        if self._traces is not None:
            self._traces.begin(sealed)
        self._fan_out(sealed, False, self._clock.now())
        return sealed

    async def _commit(self, sealed: Sealed) -> Micros:
        time = self._clock.now()
        remembered = self._deduplicate(sealed, time)
        kept = self._commits.prepare(sealed)
        if kept or sealed.captured > len(sealed.duplicates):
            time = await self._write(sealed, remembered)
        else:
            self._tally.add(_ends(sealed))
        self._under_way = None
        self._most = self._limit
        self._statistics.note(_ends(sealed))
        return time

    def _deduplicate(self, sealed: Sealed, time: Micros) -> Remembered | None:
        rows, digests = sealed.ids()
        if not rows:
            return None
        remembered = self._deduplication.remember(digests, time)
        sealed.duplicates = [row for row, first in zip(rows, remembered.first, strict=True) if not first]
        return remembered

    async def _write(self, sealed: Sealed, remembered: Remembered | None) -> Micros:
        """Commit, again and again while the disk is full, or the group has let the gateway go: meanwhile nobody is
        acknowledged."""
        delay = _FIRST_RETRY
        earlier = self._tally.take()
        self._writing_since = self._clock.monotonic()
        while True:
            try:
                committed = await self._transaction(sealed, remembered, earlier).commit()
            except UnknownStreamError:  # dropped since the batch was routed
                self.use(await self._log.streams())
                sealed.route(Routing(self._streams, sealed.gathering.table))
                sealed.duplicates = [row for row in sealed.duplicates if sealed.is_captured[row]]
            except DiskFullError as error:
                _log.error("%s; %d events wait, and nothing is acknowledged until there is room", error, self.pending)
                self.disk_full = True
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY)
            except FencedError as error:
                await self._regain(error)
            else:
                self._owner = self._token
                if self.disk_full:
                    _log.warning("there is room on the disk again")
                    self.disk_full = False
                self._statistics.commit(self._clock.monotonic() - self._writing_since, len(sealed))
                self._writing_since = None
                self._commits.committed(committed)
                return committed.time

    async def _regain(self, error: FencedError) -> None:
        """The membership has ended, and nothing is committed: brokers were away for longer than it lasts. Return for
        another attempt, unless another gateway has committed meanwhile: what this one has in memory is old then."""
        assert self._group is not None, "start comes first"
        await hear(self._group)
        try:
            state = await self._group.state(_STATE)
        except LogUnavailableError as reason:
            _log.warning("%s; %d events wait, and nothing is acknowledged", reason, self.pending)
            return
        if state.get(_OWNER) != self._owner:
            raise FencedError("another gateway has taken over; this one ends") from error

    def _transaction(self, sealed: Sealed, remembered: Remembered | None, earlier: Mapping[str, int]) -> Transaction:
        assert self._group is not None, "start comes first"
        transaction = self._group.transaction()
        put(transaction, earlier, _ends(sealed))
        for append in sealed.appends():
            transaction.append(*append)
        if remembered is not None:
            for name, chunk in remembered.saves.items():
                transaction.save(_STATE, name, chunk)
            for name in remembered.drops:
                transaction.drop(_STATE, name)
        self._commits.put(transaction)
        if self._owner != self._token:
            transaction.save(_STATE, _OWNER, self._token)
        return transaction

    def _answer(self, sealed: Sealed, time: Micros) -> None:
        arrivals = sealed.gathering.arrivals
        owed: dict[Publisher, list[bytes]] = {}  # to write costs more than all else that a message costs here
        for publisher, packets in zip(arrivals.publishers, arrivals.acknowledgements, strict=True):
            if packets and publisher is not None:
                owed.setdefault(publisher, []).append(packets)
        for publisher, answers in owed.items():
            publisher.acknowledge(answers)
        self._fan_out(sealed, True, time)
        duplicates = sealed.duplicates
        for waiter in sealed.gathering.waiters:
            if not waiter.duplicates.done():
                first, last = (bisect_left(duplicates, row) for row in (waiter.rows.start, waiter.rows.stop))
                waiter.duplicates.set_result(last - first)
        for done in sealed.gathering.done:
            done()
        self._commits.answered()
        if not self._room.is_set() and self.pending_bytes <= self._limit // 2:
            self._room.set()
            self._hold(False)


def _ends(sealed: Sealed) -> Mapping[str, int]:
    """How many events of a batch came in, and where they ended."""
    captured, duplicates = sealed.captured, len(sealed.duplicates)
    return {
        RECEIVED: len(sealed),
        COMMITTED: captured - duplicates,
        DUPLICATES: duplicates,
        TRANSIENT: len(sealed) - captured,
    }
