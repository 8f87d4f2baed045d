"""A producer of transactions: what the thread of a `Transactor` does. Every function blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from millstream.clock import Micros
from millstream.errors import LogError, LogUnavailableError
from millstream.log.kafka.cluster import CALL_SECONDS, MAX_RECORD_BYTES, Cluster
from millstream.log.kafka.failure import FENCING, TOO_LARGE, log_error, reason_of
from millstream.log.kafka.hanging import Watch
from millstream.log.kafka.record import TICK, Header, encode

_OFFSETS_SECONDS = 10.0  # for a group's coordinator to take offsets: the call that may hang
_GRACE_SECONDS = 5.0  # that a call may take beyond its own time-out
_FENCED_SECONDS = 0.2  # and longer every time, until it is tried again under the group's new generation
_TRIES = 5  # of a transaction that was aborted for a reason that may pass

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """What a transaction is to do.

    `appends` and `ticks` name topics and partitions; `chunks` are records of the topic `state`; `offsets` are committed
    for the member of a group whose metadata `member` gives. `check` raises when it is the member's no more.
    `source` is the group that appends. `firsts` are the offsets of the first event of each append, as they become
    known."""

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


class Producing:
    """Producers of one transactional id: another one when it has failed."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        self.watch = Watch()
        self._cluster = cluster
        self._id = transactional_id
        self._producer: Producer | None = None

    def commit(self, job: Job) -> str | None:
        """See `Transactor.commit`."""
        for attempt in range(1, _TRIES + 1):
            producer = self.ready()
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
                job.check()  # after it, see `Membership.metadata`: a partition may be lost and gained while this waits
                self._resume(
                    lambda: producer.send_offsets_to_transaction(list(job.offsets), member, _OFFSETS_SECONDS),
                    _OFFSETS_SECONDS,
                )
            committing = True
            self._resume(lambda: producer.commit_transaction(CALL_SECONDS))
        except KafkaException as error:
            reason = reason_of(error)
            if not reason.fatal() and (reason.txn_requires_abort() or not committing):
                self._abort(producer)
            else:
                self.give_up()
                return reason, committing
            return reason, False
        except BaseException:
            self._abort(producer)
            raise
        return None, False

    def _abort(self, producer: Producer) -> None:
        try:
            self._resume(lambda: producer.abort_transaction(CALL_SECONDS))
        except KafkaException as error:
            _log.debug("aborting: %s", error)
            self.give_up()  # the next producer aborts it

    def _produce(self, producer: Producer, job: Job) -> None:
        millis = job.time // 1000
        for number, (topic, partition, events) in enumerate(job.appends):
            told: _Told = _Noting(job.firsts, number)
            _queue(producer, topic, partition, millis, encode(events, job.source), told)
            producer.poll(0)
        for topic, partition in job.ticks:
            _queue(producer, topic, partition, millis, [(None, None, TICK)])
        for number, name, chunk in job.chunks:
            _queue(producer, job.state, number, millis, [(name.encode(), chunk, None)])

    def ready(self) -> Producer:
        """A producer whose transaction before has an outcome."""
        if self._producer is None:
            producer = Producer(self._cluster.producer(self._id))
            try:
                self._resume(lambda: producer.init_transactions(CALL_SECONDS))
            except KafkaException as error:
                raise log_error("beginning transactions", reason_of(error)) from None
            self._producer = producer
        return self._producer

    def give_up(self) -> None:
        """Give the producer up, with all that it has begun."""
        if self._producer is not None:
            with self.watch.over(CALL_SECONDS):
                self._producer.purge(in_flight=True)
                self._producer = None

    def _resume(self, call: Callable[[], object], seconds: float = CALL_SECONDS) -> None:
        """Call again as long as the client says that this goes on with what has begun. One call has a time-out of
        `seconds`; all of them may take twice the time of any call."""
        deadline = time.monotonic() + 2 * CALL_SECONDS
        while True:
            try:
                with self.watch.over(seconds + _GRACE_SECONDS):
                    call()
                return
            except KafkaException as error:
                reason = reason_of(error)
                if not reason.retriable() or reason.txn_requires_abort() or time.monotonic() >= deadline:
                    raise


_Told = Callable[[KafkaError | None, Message], None]


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
    partition: int,
    millis: int,
    records: Iterable[tuple[bytes | None, bytes | None, Sequence[Header] | None]],
    told: _Told | None = None,
) -> None:
    """Hand records to the producer; wait while its queue is full. `told` hears of the first one."""
    produce: Callable[..., None] = producer.produce
    for key, value, headers in records:
        try:
            produce(topic, value, key, partition, told, None, millis, headers)
        except BufferError:
            again = partial(produce, topic, value, key, partition, told, None, millis, headers)
            _when_there_is_room(producer, again)
        except KafkaException as error:
            if reason_of(error).code() in TOO_LARGE:
                raise LogError(
                    f"a record has {len(value or b'')} bytes, too large for topic {topic!r}; {MAX_RECORD_BYTES} at most"
                ) from None
            raise
        told = None


def _when_there_is_room(producer: Producer, produce: Callable[[], None]) -> None:
    deadline = time.monotonic() + CALL_SECONDS
    while True:
        producer.poll(0.1)
        try:
            return produce()
        except BufferError:
            if time.monotonic() >= deadline:
                raise LogUnavailableError(f"Kafka takes no records: {len(producer)} wait") from None


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
