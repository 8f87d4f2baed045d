"""What a member reads: a consumer in a thread that reads ahead in the places that it is given, within bounds."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.event import Batch
from millstream.log.kafka.cluster import CALL_SECONDS, Cluster
from millstream.log.kafka.decoding import decode
from millstream.log.kafka.failure import GONE
from millstream.log.records import NO_HELD, NO_NUMBERS, Records, concatenate

Place = tuple[str, int]
"""A stream and a partition number."""

_POLL_SECONDS = 0.05
_AT_ONCE = 4000  # messages from the client's queue: what a piece costs by itself is little then
_AHEAD_BYTES = 16 << 20  # decoded and not taken
_FETCH_WAIT_MS = 100

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Cursor:
    """A place that is read. One that is given again is another one."""

    stream: str
    number: int
    topic: str
    next_offset: int  # after what was taken
    fetched: int  # after what was read, in the thread
    done: tuple[int, ...]
    pieces: deque[Records] = field(default_factory=deque)
    expired: int = 0


@dataclass(slots=True)
class Taken:
    """What a poll gets."""

    batches: list[Batch] = field(default_factory=list)
    expired: dict[Place, int] = field(default_factory=dict)
    moved: bool = False


class Fetcher:
    """`came` is called from the event loop when there may be something to take. `sparse`: no more of events is needed
    than `BARE`."""

    def __init__(self, cluster: Cluster, came: Callable[[], None], *, sparse: bool = False) -> None:
        self._cluster = cluster
        self._came = came
        self._sparse = sparse
        self._loop = asyncio.get_running_loop()
        self._cursors: dict[Place, _Cursor] = {}
        self._turns = 0
        self._ahead = 0  # bytes of all pieces
        self._room = threading.Event()
        self._room.set()
        self._changes: queue.SimpleQueue[tuple[bool, _Cursor] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def places(self) -> Mapping[Place, _Cursor]:
        return self._cursors

    def next_offset(self, place: Place) -> int:
        """How far the place has been taken; -1 if it is not read."""
        cursor = self._cursors.get(place)
        return -1 if cursor is None else cursor.next_offset

    def start(self, stream: str, number: int, topic: str, offset: int, done: tuple[int, ...]) -> None:
        """Read from an offset on, without the events at the offsets `done`."""
        self.stop((stream, number))
        cursor = _Cursor(stream, number, topic, offset, offset, done)
        self._cursors[stream, number] = cursor
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kafka-fetcher", daemon=True)
            self._thread.start()
        self._changes.put((True, cursor))

    def stop(self, place: Place) -> None:
        """Read there no more; what was read ahead is forgotten. Absent is fine."""
        cursor = self._cursors.pop(place, None)
        if cursor is not None:
            self._weigh(-sum(piece.nbytes for piece in cursor.pieces))
            self._changes.put((False, cursor))

    def take(self, limit_bytes: int) -> Taken:
        """What was read, about `limit_bytes` of it, shared fairly between the places."""
        taken = Taken()
        waiting = [cursor for cursor in self._cursors.values() if cursor.pieces or cursor.expired]
        self._turns += 1
        turn = self._turns % len(waiting) if waiting else 0
        for left, cursor in zip(range(len(waiting), 0, -1), waiting[turn:] + waiting[:turn], strict=True):
            if cursor.expired:
                taken.expired[cursor.stream, cursor.number] = cursor.expired
                cursor.expired = 0
            if cursor.pieces and limit_bytes > 0:
                limit_bytes -= self._take_from(cursor, max(1, limit_bytes // left), taken)
        return taken

    async def close(self) -> None:
        """End the thread. Idempotent."""
        self._changes.put(None)
        self._room.set()
        if self._thread is not None:
            await self._loop.run_in_executor(None, self._thread.join)

    def _take_from(self, cursor: _Cursor, share: int, taken: Taken) -> int:
        gathered: list[Records] = []
        size = 0
        while cursor.pieces and size < share:
            piece = cursor.pieces.popleft()
            self._weigh(-piece.nbytes)
            part = piece.within(share - size)
            if part.next_offset < piece.next_offset:
                rest = piece.since(part.next_offset)
                cursor.pieces.appendleft(rest)
                self._weigh(rest.nbytes)
            gathered.append(part)
            size += part.nbytes
        found = concatenate(gathered)
        cursor.next_offset = max(cursor.next_offset, found.next_offset)
        taken.moved = True
        if cursor.done:
            found = found.without(cursor.done)
            cursor.done = tuple(offset for offset in cursor.done if offset >= cursor.next_offset)
        if len(found) or len(found.tick_offsets):
            events, ticks = found.events, found.ticks
            batch = Batch(cursor.stream, cursor.number, events, cursor.next_offset, ticks, is_sparse=self._sparse)
            taken.batches.append(batch)
        return size

    def _weigh(self, more: int) -> None:
        self._ahead += more
        (self._room.set if self._ahead < _AHEAD_BYTES else self._room.clear)()

    def _add(self, found: list[tuple[_Cursor, Records | None, int]]) -> None:
        """In the event loop: pieces, or the events that are gone."""
        for cursor, piece, expired in found:
            if self._cursors.get((cursor.stream, cursor.number)) is not cursor:
                continue  # given up meanwhile
            cursor.expired += expired
            if piece is not None:
                cursor.pieces.append(piece)
                self._weigh(piece.nbytes)
        self._came()

    # --- in the thread

    def _run(self) -> None:
        consumer = Consumer(self._cluster.reader(_FETCH_WAIT_MS))
        reading: dict[Place, _Cursor] = {}  # by topic and number
        try:
            while self._take_changes(consumer, reading):
                self._room.wait(_POLL_SECONDS)
                if not self._room.is_set():
                    continue
                first = consumer.poll(_POLL_SECONDS)
                if first is not None:
                    self._tell(self._found(consumer, [first, *consumer.consume(_AT_ONCE, 0)], reading))
        finally:
            consumer.close()

    def _take_changes(self, consumer: Consumer, reading: dict[Place, _Cursor]) -> bool:
        """False at the end."""
        with suppress(queue.Empty):
            while True:
                change = self._changes.get(block=not reading)
                if change is None:
                    return False
                begin, cursor = change
                place = (cursor.topic, cursor.number)
                if begin:
                    if place in reading:
                        _unassign(consumer, place)
                    reading[place] = cursor
                    _assign(consumer, place, cursor.fetched)
                elif reading.get(place) is cursor:
                    del reading[place]
                    _unassign(consumer, place)
        return True

    def _found(
        self, consumer: Consumer, messages: list[Message], reading: Mapping[Place, _Cursor]
    ) -> list[tuple[_Cursor, Records | None, int]]:
        ends: dict[Place, int] = {}
        found: list[tuple[_Cursor, Records | None, int]] = []
        told = [message for message in messages if message.error() is not None]
        for message in told:
            error = message.error()
            place = (message.topic() or "", message.partition() or 0)
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                ends[place] = max(ends.get(place, 0), message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET and place in reading:
                found.append(self._reset(consumer, place, reading[place]))
            elif error.code() not in GONE:
                _log.warning("reading %s: %s", place[0], error.str())
        by_place = _by_place([message for message in messages if message.error() is None] if told else messages)
        for place in {**by_place, **ends}:
            if (cursor := reading.get(place)) is None:
                continue
            some, end = by_place.get(place, []), ends.get(place, 0)
            piece = piece_of(cursor.stream, some, end, cursor.fetched, sparse=self._sparse)
            if piece is not None:
                cursor.fetched = piece.next_offset
                _ = piece.nbytes  # looked up here, and not in the event loop
                found.append((cursor, piece, 0))
        return found

    def _reset(self, consumer: Consumer, place: Place, cursor: _Cursor) -> tuple[_Cursor, Records | None, int]:
        """Retention was quicker than we: go on with what is left."""
        with suppress(KafkaException):
            low, _ = consumer.get_watermark_offsets(TopicPartition(*place), CALL_SECONDS, cached=False)
            _unassign(consumer, place)
            _assign(consumer, place, low)
            gone, cursor.fetched = max(0, low - cursor.fetched), low
            return cursor, _nothing(low), gone
        return cursor, None, 0

    def _tell(self, found: list[tuple[_Cursor, Records | None, int]]) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._add, found)


def _by_place(messages: Sequence[Message]) -> Mapping[Place, Sequence[Message]]:
    """The messages of each topic and number. Nearly always all of them are of one."""
    topics, numbers = (
        [message.topic() or "" for message in messages],
        [message.partition() or 0 for message in messages],
    )
    if messages and topics.count(topics[0]) == numbers.count(numbers[0]) == len(messages):
        return {(topics[0], numbers[0]): messages}
    found: dict[Place, list[Message]] = defaultdict(list)
    for message, topic, number in zip(messages, topics, numbers, strict=True):
        found[topic, number].append(message)
    return found


def piece_of(
    stream: str, messages: Sequence[Message], end: int, fetched: int, *, sparse: bool = False
) -> Records | None:
    """What of a partition's messages was not read before, up to the `end` of it that the client has come to (0: to
    none); None if nothing is new.

    An end may be told together with the records behind it, and a client that has to follow a partition to another
    broker may give records again. `sparse` as in `decode`."""
    piece = decode(stream, messages, sparse=sparse) if messages else None
    if piece is not None and not _is_new(piece, fetched):
        new = _new_of(messages, fetched)
        piece = decode(stream, new, sparse=sparse) if new else None
    next_offset = max(fetched, end, piece.next_offset if piece is not None else 0)
    if next_offset == fetched:
        return None
    return _nothing(next_offset) if piece is None else replace(piece, next_offset=next_offset)


def _is_new(piece: Records, fetched: int) -> bool:
    """Whether all of it, as nearly always, comes once and at or after an offset."""
    orders = piece.offsets, piece.tick_offsets
    return piece.first >= fetched and all(bool((order[1:] > order[:-1]).all()) for order in orders)


def _new_of(messages: Sequence[Message], fetched: int) -> list[Message]:
    """Those that come at or after an offset, each once."""
    new: list[Message] = []
    for message in messages:
        offset = message.offset() or 0
        if offset >= fetched:
            new.append(message)
            fetched = offset + 1
    return new


def _nothing(next_offset: int) -> Records:
    """A piece without records, up to an offset."""
    return Records(next_offset, next_offset, 0, NO_HELD, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, NO_NUMBERS, 0)


def _assign(consumer: Consumer, place: Place, offset: int) -> None:
    with suppress(KafkaException):
        consumer.incremental_assign([TopicPartition(*place, offset)])


def _unassign(consumer: Consumer, place: Place) -> None:
    with suppress(KafkaException):
        consumer.incremental_unassign([TopicPartition(*place)])
