"""Who waits for a record at the end of a partition, without looking again and again.

One consumer reads wherever somebody waits, and wakes him with the first record; he then reads it by himself.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterable
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from millstream.log.kafka.admin import TopicPlace
from millstream.log.kafka.cluster import Cluster

_FETCH_WAIT_MS = 50  # for so long at most a fetch that is under way delays whoever comes new
_POLL_SECONDS = 0.02  # while somebody waits
_Woken = asyncio.Future[None]


class Arrivals:
    """A thread with a consumer, which begins with the first who waits."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._changes: queue.SimpleQueue[tuple[TopicPlace, int, _Woken] | None] = queue.SimpleQueue()
        self._waiting: set[_Woken] = set()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, place: TopicPlace, offset: int) -> _Woken:
        """Done when there is a record at `offset` or after it, or when there may be. Cancel it to wait no longer."""
        woken: _Woken = self._loop.create_future()
        if self._closed:
            woken.set_result(None)
            return woken
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kafka-arrivals", daemon=True)
            self._thread.start()
        self._waiting.add(woken)
        woken.add_done_callback(self._waiting.discard)
        self._changes.put((place, offset, woken))
        return woken

    def wake_all(self) -> None:
        """The streams have changed, or the log is closed: let everybody look again."""
        _wake(self._waiting)

    async def close(self) -> None:
        """Wake everybody, and end the thread."""
        self._closed = True
        self.wake_all()
        if self._thread is not None:
            self._changes.put(None)
            await self._loop.run_in_executor(None, self._thread.join)

    # --- in the thread

    def _run(self) -> None:
        consumer = Consumer(self._cluster.reader(_FETCH_WAIT_MS))
        watched: dict[TopicPlace, list[tuple[int, _Woken]]] = {}
        while self._take_changes(consumer, watched):
            message = consumer.poll(_POLL_SECONDS)
            if message is not None:
                self._note(consumer, message, watched)
            self._forget(consumer, watched)
        consumer.close()

    def _take_changes(self, consumer: Consumer, watched: dict[TopicPlace, list[tuple[int, _Woken]]]) -> bool:
        """Let in whoever has come; where nobody is, wait for somebody. False at the end."""
        with suppress(queue.Empty):
            while True:
                change = self._changes.get(block=not watched)
                if change is None:
                    return False
                place, offset, woken = change
                if place in watched:
                    _unassign(consumer, place)
                watched.setdefault(place, []).append((offset, woken))
                self._assign(consumer, place, watched[place])
        return True

    def _note(self, consumer: Consumer, message: Message, watched: dict[TopicPlace, list[tuple[int, _Woken]]]) -> None:
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return
        place = (message.topic() or "", message.partition() or 0)
        waiting = watched.pop(place, [])
        reached = (message.offset() or 0) if error is None else 1 << 62  # after an error, let them look
        later = [(offset, woken) for offset, woken in waiting if offset > reached]
        self._loop.call_soon_threadsafe(_wake, {woken for offset, woken in waiting if offset <= reached})
        _unassign(consumer, place)
        if later:
            watched[place] = later
            self._assign(consumer, place, later)

    def _forget(self, consumer: Consumer, watched: dict[TopicPlace, list[tuple[int, _Woken]]]) -> None:
        for place in [place for place, waiting in watched.items() if all(woken.done() for _, woken in waiting)]:
            del watched[place]
            _unassign(consumer, place)

    def _assign(self, consumer: Consumer, place: TopicPlace, waiting: list[tuple[int, _Woken]]) -> None:
        start = min(offset for offset, _ in waiting)
        with suppress(KafkaException):
            consumer.incremental_assign([TopicPartition(*place, start)])


def _unassign(consumer: Consumer, place: TopicPlace) -> None:
    with suppress(KafkaException):
        consumer.incremental_unassign([TopicPartition(*place)])


def _wake(waiting: Iterable[_Woken]) -> None:
    for woken in list(waiting):
        if not woken.done():
            woken.set_result(None)
