"""The log in a process that is not the server's.

It reads the file itself, in short read transactions, and asks the server for everything else over the bus: to commit,
to wait, to share partitions. It never looks again and again whether something has happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from millstream.bus import Peer
from millstream.clock import Clock, Micros, SystemClock
from millstream.errors import LogClosedError, LogUnavailableError
from millstream.event import Batch
from millstream.log.contract import (
    LATEST,
    Accounts,
    Bounds,
    Commits,
    Committed,
    GroupStatus,
    Position,
    Start,
    StreamSpec,
)
from millstream.log.sqlite.coordinator import Ownership
from millstream.log.sqlite.format import Body, pack
from millstream.log.sqlite.leases import RENEW_SECONDS
from millstream.log.sqlite.member import Member, Resumes
from millstream.log.sqlite.place import Cursor, Place
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.reads import FileReads, read_batch
from millstream.log.sqlite.scan import Piece
from millstream.log.sqlite.schema import FILE_NAME
from millstream.log.sqlite.transaction import SqliteDraft
from millstream.log.sqlite.wire import (
    AskResume,
    Beyond,
    Commit,
    Done,
    Join,
    Joined,
    Release,
    Streams,
    Watch,
    decode,
    encode,
)
from millstream.topic import Filter

_PACK_HERE_BYTES = 64 << 10  # packed in less time than the way to a thread and back takes
_READ_HERE_BYTES = 32 << 10  # read in the event loop, which stands still for as long: a few milliseconds at most
_TRUST_SECONDS = 1.0  # how long a member that commits or polls busily believes what it heard of its ownership

_Status = tuple[str, int, list[tuple[Place, Position]], list[tuple[Place, int]], dict[str, int]]


class _Heard(NamedTuple):
    version: int
    at: float


class RemoteLink:
    """A `millstream.log.sqlite.member.Link` by requests."""

    def __init__(self, peer: Peer, path: Path, clock: Clock) -> None:
        self.clock = clock
        self.reads = FileReads(path)
        self._peer = peer
        self._heard: dict[int, _Heard] = {}
        self._packing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="log-pack")
        self._renewing: asyncio.Task[None] | None = None

    async def ask(self, subject: str, question: object) -> bytes:
        """A request to the server. `LogUnavailableError` if it goes away."""
        return await self._request(subject, encode(question))

    async def _request(self, subject: str, body: bytes) -> bytes:
        try:
            return await self._peer.request(subject, body)
        except LogClosedError as error:
            raise LogUnavailableError("the server is closing its log") from error

    async def close(self) -> None:
        """Leave all groups, and end what runs here."""
        for member in list(self._heard):
            await self.leave(member)
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        await self.reads.close()
        self._packing.shutdown()

    async def join(self, group: str, streams: Sequence[str], start: Start) -> Joined:
        joined = decode(await self.ask("log.join", Join(group, list(streams), start)), type=Joined)
        self._heard[joined.member] = _Heard(0, self.clock.monotonic())
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return joined

    async def beyond(self, offsets: Mapping[Place, int], timeout: float | None) -> None:
        await self.ask("log.beyond", Beyond.of(offsets, timeout))

    async def ownership(self, member: int, known: Ownership) -> Ownership:
        heard = self._heard.get(member)
        now = self.clock.monotonic()
        if heard is not None and heard.version == known.version and now - heard.at < _TRUST_SECONDS:
            return known
        return await self.watch(member, known, {}, 0.0)

    async def watch(
        self,
        member: int,
        known: Ownership,
        offsets: Mapping[Place, int],
        timeout: float | None,
        topics: Filter | None = None,
    ) -> Ownership:
        wanted = None if topics is None else topics.mqtt
        try:
            answer = await self.ask("log.watch", Watch(member, known.version, Beyond.of(offsets, timeout), wanted))
        except LogUnavailableError:
            self._heard.pop(member, None)
            raise
        ownership = decode(answer, type=Ownership | None) or known
        self._hear(member, ownership.version)
        return ownership

    async def resume(self, group: str, streams: Sequence[str], numbers: Iterable[int]) -> Resumes:
        return decode(await self.ask("log.resume", AskResume(group, list(streams), list(numbers))), type=Resumes)

    async def poll(
        self, cursors: Sequence[Cursor], limit_bytes: int, topics: Filter | None, near: bool = False
    ) -> list[Piece]:
        if near:
            await asyncio.sleep(0)  # who polls again and again lets others run
            most = min(limit_bytes, _READ_HERE_BYTES)
            found = self.reads.here(lambda reader: reader.poll(cursors, most, topics))
            if found is not None:
                return found
        return await self.reads.run(lambda reader: reader.poll(cursors, limit_bytes, topics))

    async def state(self, group: str, number: int) -> dict[str, bytes]:
        return await self.reads.run(lambda reader: reader.state(group, number))

    async def commit(self, draft: SqliteDraft) -> Committed:
        body = await self._pack(draft)
        done = decode(await self._request("log.commit", body), type=Done)
        self._hear(draft.member, done.version)
        return Committed(done.time, done.first_offsets)

    async def _pack(self, draft: SqliteDraft) -> bytes:
        if draft.size <= _PACK_HERE_BYTES:
            return _packed(draft)
        return await asyncio.get_running_loop().run_in_executor(self._packing, _packed, draft)

    async def release(self, member: int, epochs: Mapping[int, int]) -> None:
        await self.ask("log.release", Release(member, dict(epochs)))

    async def leave(self, member: int) -> None:
        self._heard.pop(member, None)
        with suppress(LogUnavailableError):  # then it is over as well
            await self.ask("log.leave", member)

    def _hear(self, member: int, version: int) -> None:
        if member in self._heard:
            self._heard[member] = _Heard(version, self.clock.monotonic())

    async def _renew(self) -> None:
        """Tell the server that this process is alive, while it has members."""
        while self._heard:
            await self.clock.sleep(RENEW_SECONDS)
            self._peer.notify("log.alive", b"")


def _packed(draft: SqliteDraft) -> bytes:
    places = {id(events): place for place, (_, _, events) in enumerate(draft.appends)}
    shown: list[int | Body] = []
    for events in draft.shown:
        place = places.get(id(events))  # what is appended as well is packed already
        shown += pack(events) if place is None else [place]
    return encode(Commit(draft.changes(), shown))


class RemoteLog:
    """See `millstream.log.contract.Log`: the log of the server at the other end of `peer`, whose data folder is
    `folder`. The peer stays its owner's to close."""

    commits = Commits.DISK

    def __init__(self, peer: Peer, folder: Path, clock: Clock | None = None) -> None:
        self._link = RemoteLink(peer, folder / FILE_NAME, clock or SystemClock())
        self._following: asyncio.Task[None] | None = None
        self._known: Streams | None = None
        self._watchers: list[Callable[[Mapping[str, StreamSpec]], None]] = []
        self._closed = False

    async def close(self) -> None:
        """Leave all groups and close. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await self._link.close()

    # --- streams

    async def create(self, spec: StreamSpec) -> None:
        await self._link.ask("log.create", spec)

    async def drop(self, name: str) -> None:
        await self._link.ask("log.drop", name)

    async def streams(self) -> Mapping[str, StreamSpec]:
        catalog = await self._link.reads.run(lambda reader: reader.catalog())
        return catalog.specs

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        loop = asyncio.get_running_loop()
        self._watchers.append(changed)
        if self._known is not None:
            loop.call_soon(changed, self._known.specs)
        if self._following is None:
            self._following = loop.create_task(self._follow())

    async def _follow(self) -> None:
        with suppress(LogUnavailableError):  # whoever uses the log is told so himself
            while True:
                version = 0 if self._known is None else self._known.version
                self._known = decode(await self._link.ask("log.streams", version), type=Streams)
                for changed in self._watchers:
                    changed(self._known.specs)

    # --- records

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        link = self._link
        return await read_batch(
            link.reads, link.beyond, link.clock, Cursor(stream, partition, offset), limit_bytes, wait
        )

    async def bounds(self, stream: str, partition: int) -> Bounds:
        return await self._link.reads.run(lambda reader: reader.bounds(stream, partition))

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        return await self._link.reads.run(lambda reader: reader.offset_at(stream, partition, time))

    def transaction(self) -> SqliteDraft:
        return SqliteDraft(self._link.commit)

    # --- groups

    async def join(
        self,
        group: str,
        streams: Sequence[str],
        *,
        start: Start = LATEST,
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> Member:
        joined = await self._link.join(group, streams, start)
        return Member(group, joined.member, joined.streams, self._link, topics)

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        return await self._link.state(group, partition)

    async def groups(self) -> Sequence[GroupStatus]:
        statuses = decode(await self._link.ask("log.groups", None), type=list[_Status])
        return [
            GroupStatus(name, members, dict(positions), dict(lag), counts)
            for name, members, positions, lag, counts in statuses
        ]

    async def accounts(self) -> Accounts:
        return await self._link.reads.run(Reader.accounts)
