"""Transactions of Kafka, one after another, by a producer in a thread of its own.

A transaction ends in one of three ways: it is committed; it is aborted, and nothing of it is there; or its outcome is
unknown, because the brokers have not answered in time. Then the producer is given up, and the next one of the same
transactional id waits, before it begins, until the outcome stands (KIP-98): whoever can look it up does so, see
`Member`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from millstream.clock import Micros
from millstream.errors import LogError, LogUnavailableError
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.cluster import CALL_SECONDS, MAX_RECORD_BYTES, Cluster
from millstream.log.kafka.failure import FENCING, TOO_LARGE, log_error, reason_of
from millstream.log.kafka.record import TICK, Header, encode

_FENCED_SECONDS = 0.2  # and longer every time, until it is tried again under the group's new generation
_GRACE_SECONDS = 5.0  # that a call may take beyond its own time-out

HANGING_EXIT = 75  # EX_TEMPFAIL of sysexits.h: the client library hangs, and another process will do better

_TRIES = 5  # of a transaction that was aborted for a reason that may pass

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """What a transaction is to do.

    `appends` and `ticks` name topics and partitions; `chunks` are records of the topic `state`; `offsets` are committed
    for the member of a group whose metadata `member` gives. `check` raises if it should not be tried again. `source` is
    the group that appends. `firsts` are the offsets of the first event of each append, as they become known."""

    time: Micros
    appends: Sequence[tuple[str, int, pa.RecordBatch]] = ()
    ticks: Sequence[tuple[str, int]] = ()
    state: str = ""
    chunks: Sequence[tuple[int, str, bytes | None]] = ()
    offsets: Sequence[TopicPartition] = ()
    member: Callable[[], Any] | None = None
    check: Callable[[], None] = lambda: None
    source: str = ""
    firsts: dict[int, int] = field(default_factory=dict)


class Transactor:
    """One producer, made again when it has failed."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._calls = Calls("kafka-transactor")
        self._producer: Producer | None = None

    async def commit(self, job: Job) -> str | None:
        """None when it is committed; why its outcome is unknown, when it is. After an error nothing is done."""
        return await self._calls.run(self._commit, job)

    async def settle(self) -> None:
        """Return when the transaction before has an outcome that others can see. `LogUnavailableError`: not yet."""
        await self._calls.run(self._ready)

    async def close(self) -> None:
        """Give the producer up. Idempotent."""
        await self._calls.close(self._give_up)

    # --- in the thread

    def _commit(self, job: Job) -> str | None:
        for attempt in range(1, _TRIES + 1):
            producer = self._ready()
            job.firsts.clear()
            reason, is_unknown = self._try(producer, job)
            if reason is None:
                break
            if is_unknown:
                return f"Kafka: committing: {reason.name()}: {reason.str()}"
            _log.debug("attempt %d to commit: %s", attempt, reason.str())
            if attempt == _TRIES or not (reason.code() in FENCING or _may_pass(reason)):
                raise log_error("committing", reason)
            if reason.code() in FENCING:
                time.sleep(attempt * _FENCED_SECONDS)
                job.check()
        return None

    def _try(self, producer: Producer, job: Job) -> tuple[KafkaError | None, bool]:
        """Commit; or abort, and tell why; or tell why it is unknown which of them has happened."""
        committing = False
        try:
            producer.begin_transaction()
            self._produce(producer, job)
            if job.member is not None:
                member = job.member()
                _resume(lambda: producer.send_offsets_to_transaction(list(job.offsets), member, CALL_SECONDS))
            committing = True
            _resume(lambda: producer.commit_transaction(CALL_SECONDS))
        except KafkaException as error:
            reason = reason_of(error)
            if not reason.fatal() and (reason.txn_requires_abort() or not committing):
                self._abort(producer)
            else:
                self._give_up()
                return reason, committing
            return reason, False
        except BaseException:
            self._abort(producer)
            raise
        return None, False

    def _abort(self, producer: Producer) -> None:
        try:
            _resume(lambda: producer.abort_transaction(CALL_SECONDS))
        except KafkaException as error:
            _log.debug("aborting: %s", error)
            self._give_up()  # the next producer aborts it

    def _produce(self, producer: Producer, job: Job) -> None:
        millis = job.time // 1000
        for number, (topic, partition, events) in enumerate(job.appends):
            told: Callable[[KafkaError | None, Message], None] | None = _Noting(job.firsts, number)
            for key, value, headers in encode(events, job.source):
                _queue(producer, topic, value, key, partition, told, millis, headers)
                told = None
            producer.poll(0)
        for topic, partition in job.ticks:
            _queue(producer, topic, None, None, partition, None, millis, TICK)
        for number, name, chunk in job.chunks:
            _queue(producer, job.state, chunk, name.encode(), number, None, millis, None)

    def _ready(self) -> Producer:
        if self._producer is None:
            producer = Producer(self._cluster.producer(self._id))
            try:
                _resume(lambda: producer.init_transactions(CALL_SECONDS))
            except KafkaException as error:
                raise log_error("beginning transactions", reason_of(error)) from None
            self._producer = producer
        return self._producer

    def _give_up(self) -> None:
        if self._producer is not None:
            self._producer.purge(in_flight=True)
            self._producer = None


class _Noting:
    """Notes the offset of an append's first event."""

    __slots__ = ("_firsts", "_number")

    def __init__(self, firsts: dict[int, int], number: int) -> None:
        self._firsts = firsts
        self._number = number

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._firsts[self._number] = message.offset() or 0


def _queue(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int,
    told: Callable[[KafkaError | None, Message], None] | None,
    millis: int,
    headers: Sequence[Header] | None,
) -> None:
    """Hand a record to the producer; wait while its queue is full."""
    deadline = time.monotonic() + CALL_SECONDS
    while True:
        try:
            producer.produce(topic, value, key, partition, told, None, millis, cast("Any", headers))
            return
        except BufferError:
            if time.monotonic() >= deadline:
                raise LogUnavailableError(f"Kafka takes no records: {len(producer)} wait") from None
            producer.poll(0.1)
        except KafkaException as error:
            if reason_of(error).code() in TOO_LARGE:
                raise LogError(
                    f"a record has {len(value or b'')} bytes, too large for topic {topic!r}; {MAX_RECORD_BYTES} at most"
                ) from None
            raise


def _resume(call: Callable[[], object]) -> None:
    """Call again as long as the client says that this goes on with what has begun, within the time of a call."""
    deadline = time.monotonic() + 2 * CALL_SECONDS
    while True:
        try:
            with _bounded():
                call()
            return
        except KafkaException as error:
            reason = reason_of(error)
            if not reason.retriable() or reason.txn_requires_abort() or time.monotonic() >= deadline:
                raise


@contextmanager
def _bounded() -> Iterator[None]:
    """Around a call of the client that has a time-out of its own. After an outage librdkafka at times never returns
    from `send_offsets_to_transaction`, whatever its time-out says, and nothing can be done with the producer any more:
    the process ends. Nothing was acknowledged, and whoever comes next looks up what is committed."""
    alarm = threading.Timer(CALL_SECONDS + _GRACE_SECONDS, _end_process)
    alarm.daemon = True
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def _end_process() -> None:
    _log.critical("Kafka's client does not return from a call; this process ends, and recovers when it starts again")
    os._exit(HANGING_EXIT)


def _may_pass(reason: KafkaError) -> bool:
    """Whether another attempt may fare better: the brokers were busy with each other."""
    return reason.code() in _PASSING or reason.retriable()


_PASSING = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError._FENCED,
        KafkaError._STATE,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.INVALID_TXN_STATE,
    }
)
