"""Which partition numbers of a group are whose: a consumer that is a member of Kafka's group, and reads nothing.

It subscribes to the group's state topic, which has a partition for each number; so a number has one owner, the same for
all streams of the group. Rebalancing is cooperative: a number that another member is to have is *revoked*, and the
thread holds Kafka's rebalance until it is released; only then does the next member get it. Every grant of a number has
an *epoch* of its own within this process, so that a commit begun under an earlier grant is refused here; one of a
process that was frozen meanwhile is refused by the brokers, since its group has gone on to a newer generation.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition

from millstream.errors import FencedError, LogUnavailableError
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.failure import log_error, reason_of

T = TypeVar("T")

_POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)
_epochs = itertools.count(1)


class Membership:
    """`owned` are this member's numbers, each with the epoch of its grant, and `revoked` those among them that another
    member waits for. `changed` is called from the event loop after every change of them."""

    def __init__(self, cluster: Cluster, group: str, state_topic: str, changed: Callable[[], None]) -> None:
        self.owned: dict[int, int] = {}
        self.revoked: set[int] = set()
        self.joined = asyncio.Event()
        self.is_over = False
        self.failed: LogUnavailableError | None = None
        self._group = group
        self._topic = state_topic
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[Consumer], None]] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._released = threading.Condition()
        self._metadata: Any = None
        self._held: set[int] = set()  # revoked and not released, in the thread
        self._consumer = Consumer(cluster.member(group))
        self._thread = threading.Thread(target=self._run, name=f"kafka-member-{group}", daemon=True)
        self._thread.start()

    def metadata(self) -> Any:
        """What tells the brokers that a commit is this member's, of the generation to which `owned` belongs. From any
        thread: who asks for it first, and looks at `owned` then, commits what is his or is refused by the brokers."""
        if self._metadata is None:
            raise FencedError(f"group {self._group!r}: the membership is over; join again")
        return self._metadata

    async def commit(self, offsets: list[TopicPartition]) -> None:
        """Commit offsets as this member, outside of a transaction."""
        done: asyncio.Future[None] = self._loop.create_future()

        def call(consumer: Consumer) -> None:
            try:
                consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                self._tell(_fail, done, log_error(f"giving the group {self._group!r} a position", reason_of(error)))
            else:
                self._tell(_finish, done)

        self._calls.put(call)
        await done

    def release(self, numbers: Iterable[int]) -> None:
        """Give up numbers that are revoked."""
        for number in numbers:
            if number in self.revoked:
                self.revoked.discard(number)
                self.owned.pop(number, None)
        with self._released:
            self._held -= set(numbers)
            self._released.notify_all()

    async def leave(self) -> None:
        """End the membership; the numbers go to others. Idempotent."""
        self.is_over = True
        self.owned.clear()
        self.revoked.clear()
        self._leaving.set()
        with self._released:
            self._released.notify_all()
        await self._loop.run_in_executor(None, self._thread.join)

    # --- in the event loop

    def _gain(self, numbers: list[int], metadata: Any) -> None:
        self._metadata = metadata
        if not self.is_over:
            self.owned.update((number, next(_epochs)) for number in numbers)
        self.joined.set()
        self._changed()

    def _revoke(self, numbers: list[int], metadata: Any) -> None:
        self._metadata = metadata
        self.revoked.update(number for number in numbers if number in self.owned)
        self._changed()

    def _lose(self, numbers: list[int]) -> None:
        for number in numbers:
            self.owned.pop(number, None)
            self.revoked.discard(number)
        self._changed()

    def _lose_all(self, numbers: list[int]) -> None:
        self._metadata = None
        self._lose(numbers)

    def _fail(self, error: LogUnavailableError) -> None:
        self.failed = error
        self._lose(list(self.owned))

    # --- in the thread

    def _run(self) -> None:
        consumer = self._consumer
        try:
            consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._hold_back, on_lost=self._were_lost
            )
            while not self._leaving.is_set():
                self._answer_calls()
                message = consumer.poll(_POLL_SECONDS)
                if message is not None and (error := message.error()) is not None:
                    _log.warning("group %r: %s", self._group, error.str())
        except KafkaException as error:
            self._tell(self._fail, LogUnavailableError(f"Kafka: group {self._group!r}: {reason_of(error).str()}"))
        finally:
            consumer.close()

    def _answer_calls(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._calls.get_nowait()(self._consumer)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            partition.offset = 0  # nothing is read; so no offset has to be asked for
        consumer.incremental_assign(partitions)
        # Asked for here, and not by those who commit: the call keeps Python's lock while it waits for the client.
        metadata = consumer.consumer_group_metadata()
        if partitions:
            consumer.pause(partitions)
        self._tell(self._gain, [partition.partition for partition in partitions], metadata)

    def _hold_back(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        with self._released:
            self._held = set(numbers)
        # The metadata are of the new generation, under which these are still ours.
        self._tell(self._revoke, numbers, consumer.consumer_group_metadata())
        with self._released:
            while self._held and not self._leaving.is_set():
                self._released.wait(_POLL_SECONDS)
                self._answer_calls()
        consumer.incremental_unassign(partitions)
        self._tell(self._lose, numbers)

    def _were_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_unassign(partitions)
        self._tell(self._lose_all, [partition.partition for partition in partitions])

    def _tell(self, callback: Callable[..., object], *given: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(callback, *given)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
