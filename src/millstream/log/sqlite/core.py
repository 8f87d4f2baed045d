"""The log inside the server's process: what `SqliteLog` offers there, and `serve_log` to other processes.

It brings together the writer's thread, the reads, the coordinator of the groups, those who wait, and the timers: one
for the ticks that are due, one for the partitions that are being handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from millstream.clock import Clock
from millstream.errors import DiskFaultError, LogClosedError, LogError
from millstream.log.contract import Committed, GroupStatus, Start, StreamSpec
from millstream.log.sqlite.catalog import Catalog
from millstream.log.sqlite.changes import Changes
from millstream.log.sqlite.choosers import PASS_SECONDS, Choosers
from millstream.log.sqlite.coordinator import Coordinator, Ownership
from millstream.log.sqlite.folder import Ballast
from millstream.log.sqlite.housekeeping import Housekeeping
from millstream.log.sqlite.member import Resumes
from millstream.log.sqlite.place import Cursor, Place
from millstream.log.sqlite.reads import Reads, WriterReads
from millstream.log.sqlite.scan import Piece
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.store import Store
from millstream.log.sqlite.ticker import Ticker
from millstream.log.sqlite.transaction import SqliteDraft
from millstream.log.sqlite.writer import Writer
from millstream.log.waiting import Timer, Waiters
from millstream.topic import Filter

_STREAMS = "streams"  # the key of those who wait for a change of the streams


class Core:
    """A `millstream.log.sqlite.member.Link` by direct calls, and the rest of the log."""

    def __init__(self, store: Store, clock: Clock, reads: Reads | None = None, ballast: Ballast | None = None) -> None:
        self.clock = clock
        self.writer = Writer(store, self._committed, self._full, self._faulted)
        self.reads: Reads = reads or WriterReads(self.writer)
        self.on_fault: list[Callable[[DiskFaultError], None]] = []
        self.show: Callable[[pa.RecordBatch], None] = lambda events: None
        self.hears: Callable[[Collection[str]], bool] = lambda topics: True
        self._store = store
        self._waiters = Waiters(clock)
        self._coordinator = Coordinator(lambda member: self._waiters.wake([member]))
        self._ends: dict[Place, int] = {}
        self._watchers: list[Callable[[Mapping[str, StreamSpec]], None]] = []
        self._ticker = Ticker(self.writer, clock, self._committed)
        self._housekeeping = Housekeeping(self.writer, clock, ballast)
        self._handovers = Timer(clock, self._end_handovers)
        self._choosers = Choosers()
        self._passing = Timer(clock, self._pass_by)
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self._catalog_changed()
        for partition, mark in store.index.ends.items():
            self._ends[self.catalog.places[partition]] = mark.offset
        self._ticker.plan(store.index.next_due)
        self._housekeeping.start()

    @property
    def catalog(self) -> Catalog:
        """The streams there are."""
        return self._store.index.catalog

    @property
    def ends(self) -> Mapping[Place, int]:
        """The offset that the next record gets, by stream and partition."""
        return self._ends

    def on_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call and await `callback` when the log is closed."""
        self._closing.append(callback)

    async def close(self) -> None:
        """Finish what is being committed. Everybody who waits gets `LogClosedError`."""
        for callback in self._closing:
            await callback()
        self._waiters.fail(LogClosedError("the log was closed"))
        await self._ticker.close()
        await self._housekeeping.close()
        await self._handovers.close()
        await self._passing.close()
        await self.writer.close()
        await self.reads.close()

    # --- streams

    async def create(self, spec: StreamSpec) -> None:
        if await self.writer.call(lambda store: store.create(spec)):
            self._catalog_changed()

    async def drop(self, name: str) -> None:
        stream = self.catalog.stream(name)
        await self.writer.call(lambda store: store.drop(name))
        places = [(name, number) for number in range(len(stream.partitions))]
        for place in places:
            self._ends.pop(place, None)
        self._wake(dict.fromkeys(places, 0), {})
        self._catalog_changed()

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        self._watchers.append(changed)
        asyncio.get_running_loop().call_soon(changed, self.catalog.specs)

    async def streams_after(self, version: int) -> Catalog:
        """The catalog, once it is another one than that of `version`."""
        while self.catalog.version == version:
            await self._waiters.wait([_STREAMS], None)
        return self.catalog

    def _catalog_changed(self) -> None:
        new = [place for place in self.catalog.places.values() if place not in self._ends]
        self._ends.update(dict.fromkeys(new, 0))
        self._wake(dict.fromkeys(new, 0), {})
        for changed in self._watchers:
            asyncio.get_running_loop().call_soon(changed, self.catalog.specs)
        self._waiters.wake([_STREAMS])
        self._housekeeping.look_at_ages()

    # --- committing

    async def commit(self, draft: SqliteDraft) -> Committed:
        if draft.group:
            self._coordinator.check(draft.group, draft.member, draft.epochs, draft.owned)
        return await self._commit(draft.changes, draft.shown)

    async def commit_changes(self, changes: Changes, shown: Iterable[pa.RecordBatch]) -> Committed:
        """Commit what another process has packed, and show these events, which are asked for when it is committed."""
        if changes.group:
            self._coordinator.check(changes.group, changes.member, changes.epochs, changes.owned)
        return await self._commit(lambda: changes, shown)

    async def _commit(self, changes: Callable[[], Changes], shown: Iterable[pa.RecordBatch]) -> Committed:
        committed = self.writer.commit(changes)
        if not shown:
            return await committed
        committed.add_done_callback(lambda _: self._show(committed, shown))
        return await asyncio.shield(committed)  # whoever asked may go away: it is committed all the same

    def _show(self, committed: asyncio.Future[Committed], shown: Iterable[pa.RecordBatch]) -> None:
        if not committed.cancelled() and committed.exception() is None:
            for events in shown:
                self.show(events)

    def _committed(self, stage: Stage) -> None:
        places = self.catalog.places
        moved = {places[partition]: mark.offset for partition, mark in stage.ends.items() if partition in places}
        topics = {places[partition]: stage.topics.get(partition, ()) for partition in stage.ends if partition in places}
        self._ends.update(moved)
        self._wake(moved, topics)
        if stage.dues:
            self._ticker.plan(stage.next_due)
        self._housekeeping.note(stage)

    def _full(self) -> None:
        self._housekeeping.free_ballast()

    def _faulted(self, error: DiskFaultError) -> None:
        self._waiters.fail(error)
        for callback in self.on_fault:
            callback(error)

    # --- waiting

    def _wake(self, ends: Mapping[Place, int], topics: Mapping[Place, Collection[str] | None]) -> None:
        """Wake whoever waits for records of partitions, which end here now. What came is on these topics (None, or
        not said: it may be on any)."""
        self._waiters.wake(ends)
        if self._choosers and ends:
            for place, end in ends.items():
                self._waiters.wake(self._choosers.came(place, end, topics.get(place)))
            self._pass_soon()

    def _pass_soon(self) -> None:
        """Wake those who wait for other topics, so that they pass by what has come."""
        self._passing.set(self.clock.monotonic() + PASS_SECONDS)

    def _pass_by(self) -> None:
        self._waiters.wake(self._choosers.behind(self._ends))

    async def beyond(self, offsets: Mapping[Place, int], timeout: float | None) -> None:
        """Wait until there is a record at one of the offsets or after it, or a stream is gone, or for `timeout`
        seconds."""
        if all(self._ends.get(place, offset + 1) <= offset for place, offset in offsets.items()):
            await self._waiters.wait(offsets, timeout)

    # --- groups

    async def join(self, group: str, streams: Sequence[str], start: Start) -> tuple[int, dict[str, int]]:
        """A new member's id, and the numbers of partitions of its streams."""
        if not group:
            raise LogError("a group needs a name")
        await self.writer.call(lambda store: store.join(group, streams, start))
        counts = {name: len(self.catalog.stream(name).partitions) for name in streams}
        member = self._coordinator.join(group, counts, self.clock.monotonic())
        self._plan_handovers()
        return member, counts

    def version(self, member: int) -> int:
        """The version of a member's ownership; 0 when the membership is over, or for no member."""
        return self._coordinator.version(member)

    async def ownership(self, member: int, known: Ownership) -> Ownership:
        return known if known.version == self._coordinator.version(member) else self._coordinator.ownership(member)

    async def watch(
        self,
        member: int,
        known: Ownership,
        offsets: Mapping[Place, int],
        timeout: float | None,
        topics: Filter | None = None,
    ) -> Ownership:
        if self._coordinator.version(member) == known.version:
            at_end = all(self._ends.get(place, offset) <= offset for place, offset in offsets.items())
            if topics is None:
                if at_end:
                    await self._waiters.wait([member, *offsets], timeout)
            elif not self._choosers.wait(member, topics.mqtt, offsets, self._ends):
                if not at_end:
                    self._pass_soon()
                await self._waiters.wait([member], timeout)
        return await self.ownership(member, known)

    async def resume(self, group: str, streams: Sequence[str], numbers: Iterable[int]) -> Resumes:
        return await self.writer.call(lambda store: store.resume(group, streams, numbers))

    async def poll(
        self, cursors: Sequence[Cursor], limit_bytes: int, topics: Filter | None, near: bool = False
    ) -> list[Piece]:
        return await self.reads.run(lambda reader: reader.poll(cursors, limit_bytes, topics))

    async def state(self, group: str, number: int) -> dict[str, bytes]:
        return await self.reads.run(lambda reader: reader.state(group, number))

    async def release(self, member: int, epochs: Mapping[int, int]) -> None:
        self._coordinator.release(member, epochs, self.clock.monotonic())
        self._plan_handovers()

    async def leave(self, member: int) -> None:
        self.expel([member])

    def expel(self, members: Iterable[int]) -> None:
        """End memberships; their partitions go to the others at once."""
        for member in members:
            self._choosers.leave(member)
            self._coordinator.leave(member, self.clock.monotonic())
        self._plan_handovers()

    async def groups(self) -> list[GroupStatus]:
        found = {status.name: status for status in await self.reads.run(lambda reader: reader.groups())}
        for name in self._coordinator.groups:
            found.setdefault(name, GroupStatus(name, 0, {}, {}, {}))
        return [replace(status, members=self._coordinator.count(name)) for name, status in sorted(found.items())]

    def _end_handovers(self) -> None:
        self._coordinator.expire(self.clock.monotonic())
        self._plan_handovers()

    def _plan_handovers(self) -> None:
        self._handovers.set(self._coordinator.next_deadline)
