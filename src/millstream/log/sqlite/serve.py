"""The server's end of `millstream.log.sqlite.remote`: answers what other processes ask of the log."""

from __future__ import annotations

from millstream.bus import Bus, Handler, Peer
from millstream.log.contract import StreamSpec
from millstream.log.sqlite.coordinator import Ownership
from millstream.log.sqlite.core import Core
from millstream.log.sqlite.format import unpack_bodies
from millstream.log.sqlite.leases import Leases
from millstream.log.sqlite.log import SqliteLog
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


def serve_log(log: SqliteLog, bus: Bus) -> None:
    """Answer the `log.*` subjects of `bus`, until the log is closed."""
    server = _Server(log.core)
    bus.serve("log.create", server.hearing(server.create))
    bus.serve("log.drop", server.hearing(server.drop))
    bus.serve("log.streams", server.hearing(server.streams))
    bus.serve("log.commit", server.hearing(server.commit))
    bus.serve("log.beyond", server.hearing(server.beyond))
    bus.serve("log.join", server.hearing(server.join))
    bus.serve("log.watch", server.hearing(server.watch))
    bus.serve("log.resume", server.hearing(server.resume))
    bus.serve("log.release", server.hearing(server.release))
    bus.serve("log.leave", server.hearing(server.leave))
    bus.serve("log.groups", server.hearing(server.groups))
    bus.serve("log.alive", server.hearing(server.alive))


class _Server:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._leases = Leases(core.clock, core.expel)
        core.on_close(self._leases.close)

    def hearing(self, handler: Handler) -> Handler:
        """The handler, after noting that the peer is alive."""

        async def heard(peer: Peer, body: bytes) -> bytes:
            self._leases.hear(peer)
            return await handler(peer, body)

        return heard

    async def create(self, peer: Peer, body: bytes) -> bytes:
        await self._core.create(decode(body, type=StreamSpec))
        return b""

    async def drop(self, peer: Peer, body: bytes) -> bytes:
        await self._core.drop(decode(body, type=str))
        return b""

    async def streams(self, peer: Peer, body: bytes) -> bytes:
        catalog = await self._core.streams_after(decode(body, type=int))
        return encode(Streams(catalog.version, catalog.specs))

    async def commit(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=Commit)
        shown = unpack_bodies(asked.shown_bodies(self._core.hears)) if asked.shown else ()
        done = await self._core.commit_changes(asked.changes, shown)
        return encode(Done(done.time, done.first_offsets, self._core.version(asked.changes.member)))

    async def beyond(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=Beyond)
        await self._core.beyond(asked.by_place, asked.timeout)
        return b""

    async def join(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=Join)
        member, streams = await self._core.join(asked.group, asked.streams, asked.start)
        self._leases.add(peer, member)
        return encode(Joined(member, streams))

    async def watch(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=Watch)
        known = Ownership(asked.version)
        topics = None if asked.topics is None else Filter.parse(asked.topics)
        offsets, timeout = asked.beyond.by_place, asked.beyond.timeout
        ownership = await self._core.watch(asked.member, known, offsets, timeout, topics)
        return encode(None if ownership is known else ownership)

    async def resume(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=AskResume)
        return encode(await self._core.resume(asked.group, asked.streams, asked.numbers))

    async def release(self, peer: Peer, body: bytes) -> bytes:
        asked = decode(body, type=Release)
        await self._core.release(asked.member, asked.epochs)
        return b""

    async def leave(self, peer: Peer, body: bytes) -> bytes:
        member = decode(body, type=int)
        self._leases.remove(peer, member)
        await self._core.leave(member)
        return b""

    async def groups(self, peer: Peer, body: bytes) -> bytes:
        return encode(
            [
                (each.name, each.members, list(each.positions.items()), list(each.lag.items()), each.counts)
                for each in await self._core.groups()
            ]
        )

    async def alive(self, peer: Peer, body: bytes) -> bytes:
        return b""
