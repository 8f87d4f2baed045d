"""A connection of the bus: requests with ids, notices, errors that are raised again.

Memory is bounded without ever pausing reading, so that two ends which call each other cannot lock up:
requests wait at the requester while too many bytes of its requests are unanswered, or while the peer does not
read; notices are dropped, and counted, at the sender whose buffer is full and at a receiver which is behind with
serving them. Both ends belong to the same user (the socket's mode sees to it) and keep to this.

Requests and notices of a peer begin to be served in the order in which they were sent. A request whose caller
goes away, or is cancelled, is cancelled where it is served.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from millstream.bus import Handler
from millstream.errors import LogUnavailableError, MillstreamError
from millstream.runtime.frame import FrameError, FrameReader, Header, Kind, encode
from millstream.runtime.remote import class_name, revive

BUFFER_BYTES = 8 << 20  # to a peer that is not reading: some thousand batches of notices
UNANSWERED_BYTES = 64 << 20  # of one peer's requests; as much as the gateway lets wait for a commit
NOTICE_BYTES = 8 << 20  # received, and not yet served
MESSAGE_COST = 512  # what a message costs beside its body, about: an empty one is not free

FLUSH_SECONDS = 1.0  # for a peer to take what was written to it before the connection was closed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerStatistics:
    """What a connection holds, and what it had to drop since it began."""

    unanswered: int
    serving: int
    dropped_out: int
    dropped_in: int


class SocketPeer(asyncio.Protocol):
    """The other end of a connection; see `millstream.bus.Peer`."""

    def __init__(self, subjects: dict[str, Handler], begun: Callable[[SocketPeer], None] | None = None) -> None:
        self._subjects = subjects
        self._begun = begun
        self._reader = FrameReader()
        self._transport: asyncio.Transport
        self._closed = asyncio.get_running_loop().create_future()
        self._close_callbacks: list[Callable[[], None]] = []
        self._turn = asyncio.Lock()
        self._writable = asyncio.Event()
        self._ids = itertools.count(1)
        self._unanswered: dict[int, asyncio.Future[bytes]] = {}
        self._unanswered_bytes = 0
        self._answered = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._notice_bytes = 0
        self._dropped_out = 0
        self._dropped_in = 0

    # --- what users call

    def serve(self, subject: str, handler: Handler) -> None:
        """Answer this peer's requests, and take its notices, on a subject."""
        register(self._subjects, subject, handler)

    async def request(self, subject: str, body: bytes) -> bytes:
        """Call, and wait for the answer; see `millstream.bus.Peer.request`."""
        cost = len(body) + MESSAGE_COST
        number = next(self._ids)
        frame = encode(Header(Kind.REQUEST, number, subject), body)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        async with self._turn:  # a small request must not overtake a large one that waits for room
            await self._room(cost)
            self._unanswered[number] = answer
            self._unanswered_bytes += cost
            self._write(frame)
        try:
            return await answer
        except asyncio.CancelledError:
            self._write(encode(Header(Kind.CANCEL, number), b""))
            answer.cancel()
            raise
        finally:
            del self._unanswered[number]
            self._unanswered_bytes -= cost
            self._answered.set()

    def notify(self, subject: str, body: bytes) -> bool:
        """Send without an answer; False, and counted, if the message had to be dropped."""
        waiting = self._transport.get_write_buffer_size()
        if self._closed.done() or (waiting and waiting + len(body) > BUFFER_BYTES):
            self._dropped_out += 1
            return False
        self._write(encode(Header(Kind.NOTICE, 0, subject), body))
        return True

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the connection has ended, at once if it has."""
        if self._closed.done():
            callback()
        else:
            self._close_callbacks.append(callback)

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await asyncio.shield(self._closed)

    async def close(self) -> None:
        """End the connection: what is unanswered fails, what is being served is cancelled. Idempotent."""
        self._transport.close()
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.wait_closed()
        except TimeoutError:
            self._transport.abort()
            await self.wait_closed()
        await asyncio.gather(*(self._tasks - {asyncio.current_task()}), return_exceptions=True)

    def statistics(self) -> PeerStatistics:
        """What the connection holds now."""
        return PeerStatistics(len(self._unanswered), len(self._tasks), self._dropped_out, self._dropped_in)

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES // 2)  # requests wait from here on
        self._writable.set()
        if self._begun is not None:
            self._begun(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        try:
            for header, body in self._reader.feed(data):
                self._receive(header, body)
        except FrameError as error:
            _log.warning("a connection to the bus is closed: %s", error)
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set_result(None)
        self._writable.set()
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_exception(_gone())
        for task in self._tasks:
            task.cancel()
        callbacks, self._close_callbacks = self._close_callbacks, []
        for callback in callbacks:
            callback()

    # --- sending

    async def _room(self, cost: int) -> None:
        while True:
            if self._closed.done():
                raise _gone()
            if self._unanswered_bytes and self._unanswered_bytes + cost > UNANSWERED_BYTES:
                self._answered.clear()
                await self._answered.wait()
            elif not self._writable.is_set():
                await self._writable.wait()
            else:
                return

    def _write(self, frame: bytes) -> None:
        if not self._closed.done():
            self._transport.write(frame)

    # --- receiving

    def _receive(self, header: Header, body: bytes) -> None:
        if header.kind == Kind.REQUEST:
            serving = self._serving[header.id] = self._begin(self._answer(header, body))
            serving.add_done_callback(lambda _: self._serving.pop(header.id))
        elif header.kind == Kind.NOTICE:
            self._take(header, body)
        elif header.kind == Kind.CANCEL:
            if (task := self._serving.get(header.id)) is not None:
                task.cancel()
        elif (answer := self._unanswered.get(header.id)) is not None and not answer.done():
            if header.kind == Kind.REPLY:
                answer.set_result(body)
            else:
                answer.set_exception(revive(header.name, body.decode()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, header: Header, body: bytes) -> None:
        frame = await self._outcome(header, body)
        await self._writable.wait()
        self._write(frame)

    async def _outcome(self, header: Header, body: bytes) -> bytes:
        handler = self._subjects.get(header.name)
        try:
            if handler is None:
                raise MillstreamError(f"the process at the other end does not serve {header.name!r}")
            return encode(Header(Kind.REPLY, header.id), await handler(self, body))
        except MillstreamError as error:
            return encode(Header(Kind.ERROR, header.id, class_name(error)), str(error).encode())
        except Exception as error:
            _log.exception("serving %r failed", header.name)
            text = f"serving {header.name!r} failed with {type(error).__name__}: {error}; see the other process's log"
            return encode(Header(Kind.ERROR, header.id, "MillstreamError"), text.encode())

    def _take(self, header: Header, body: bytes) -> None:
        cost = len(body) + MESSAGE_COST
        handler = self._subjects.get(header.name)
        if handler is None or (self._notice_bytes and self._notice_bytes + cost > NOTICE_BYTES):
            self._dropped_in += 1
            return
        self._notice_bytes += cost
        self._begin(self._notice(handler, header.name, body)).add_done_callback(lambda _: self._taken(cost))

    async def _notice(self, handler: Handler, subject: str, body: bytes) -> None:
        try:
            await handler(self, body)
        except Exception:
            _log.exception("taking a notice on %r failed", subject)

    def _taken(self, cost: int) -> None:
        self._notice_bytes -= cost


def register(subjects: dict[str, Handler], subject: str, handler: Handler) -> None:
    """Let `handler` serve `subject`. `ValueError` if it is taken."""
    if subject in subjects:
        raise ValueError(f"{subject!r} has a handler already")
    subjects[subject] = handler


def _gone() -> LogUnavailableError:
    return LogUnavailableError("the connection to the other process ended before it answered")
