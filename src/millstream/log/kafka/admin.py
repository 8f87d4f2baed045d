"""Topics and groups as an administrator sees them. Every method blocks, and is called from one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from millstream.errors import LogUnavailableError
from millstream.log.kafka.cluster import CALL_SECONDS, Cluster
from millstream.log.kafka.failure import GONE, log_error, reason_of

T = TypeVar("T")

TopicPlace = tuple[str, int]
"""A topic and a partition number."""

_FIRST_SECONDS = 10.0  # for the first answer of a broker
_UNSTABLE_SECONDS = 30.0  # for an open transaction that moves an offset; brokers end it earlier if its producer is gone
_GROUP_SECONDS = 5.0  # for the coordinator of a group
_PAUSE_SECONDS = 0.05  # between tries
_NO_IDENTITY = str(Uuid(0, 0))


class Offset(NamedTuple):
    """A committed offset with its metadata."""

    offset: int
    metadata: str | None


class Admin:
    """Over one client."""

    def __init__(self, cluster: Cluster) -> None:
        self._servers = cluster.servers
        self._replication = cluster.replication
        self._config = cluster.admin()
        self._client = AdminClient(self._config)

    def check(self) -> None:
        """`LogUnavailableError` where no broker answers."""
        try:
            self._client.list_topics(timeout=_FIRST_SECONDS)
        except KafkaException as error:
            raise LogUnavailableError(
                f"Kafka: no broker answers at {self._servers} in {_FIRST_SECONDS:g} s ({reason_of(error).str()}); see "
                "whether they run, and what [log.kafka] says of TLS, user and password"
            ) from None

    # --- topics

    def create(self, topic: str, partitions: int, config: Mapping[str, str]) -> bool:
        """Make a topic; False if there is one of that name."""
        new = NewTopic(topic, partitions, self._replication, config=dict(config))
        is_new = True
        try:
            _result(self._client.create_topics([new], operation_timeout=CALL_SECONDS)[topic])
        except KafkaException as error:
            if reason_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise log_error(f"making the topic {topic!r}", reason_of(error)) from None
            is_new = False
        _patiently(lambda: self.partitions(topic) or None)  # until the brokers tell each other, whoever has made it
        return is_new

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 if there is none of that name."""
        found = self._describe(topic)
        return 0 if found is None else len(found.partitions)

    def identity(self, topic: str) -> str | None:
        """What tells a topic from one of the same name before it; None if there is none, or the brokers do not tell."""
        found = self._describe(topic)
        return None if found is None or str(found.topic_id) == _NO_IDENTITY else str(found.topic_id)

    def _describe(self, topic: str) -> Any:
        try:
            found = self._client.describe_topics(TopicCollection([topic]), request_timeout=CALL_SECONDS)[topic]
            return _result(found)
        except KafkaException as error:
            if reason_of(error).code() in GONE:
                return None
            raise log_error(f"asking for the topic {topic!r}", reason_of(error)) from None

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        try:
            _result(self._client.create_partitions([NewPartitions(topic, partitions)])[topic])
        except KafkaException as error:
            raise log_error(f"adding partitions to {topic!r}", reason_of(error)) from None

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Set some of a topic's properties."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        try:
            _result(self._client.incremental_alter_configs([resource])[resource])
        except KafkaException as error:
            raise log_error(f"changing the topic {topic!r}", reason_of(error)) from None

    def property(self, topic: str, name: str) -> str | None:
        """A property of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            found = _result(self._client.describe_configs([resource])[resource]).get(name)
        except KafkaException as error:
            raise log_error(f"asking for the topic {topic!r}", reason_of(error)) from None
        return None if found is None else str(found.value)

    def delete(self, topic: str) -> None:
        """Delete a topic. One that is not there is fine."""
        try:
            _result(self._client.delete_topics([topic], operation_timeout=CALL_SECONDS)[topic])
        except KafkaException as error:
            if reason_of(error).code() not in GONE:
                raise log_error(f"deleting the topic {topic!r}", reason_of(error)) from None
        _patiently(lambda: self.partitions(topic) == 0 or None)

    def firsts(self, places: Iterable[TopicPlace]) -> dict[TopicPlace, int]:
        """The lowest offset that is left of partitions. Those that are not there are left out."""
        return self._list(places, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)

    def ends(self, places: Iterable[TopicPlace], *, committed: bool) -> dict[TopicPlace, int]:
        """The offset that the next record of partitions gets; `committed`: the one after all that is committed. Those
        that are not there are left out."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._list(places, OffsetSpec.latest(), level)

    def _list(self, places: Iterable[TopicPlace], spec: OffsetSpec, level: IsolationLevel) -> dict[TopicPlace, int]:
        asked = {TopicPartition(*place): spec for place in places}
        return _patiently(lambda: self._listed(asked, level)) if asked else {}

    def _listed(
        self, asked: Mapping[TopicPartition, OffsetSpec], level: IsolationLevel
    ) -> dict[TopicPlace, int] | None:
        """None where the client has an old idea of who leads a partition. It keeps that for a quarter of an hour, also
        when a broker has come back, so another client takes its place, which asks."""
        found: dict[TopicPlace, int] = {}
        for place, future in self._client.list_offsets(
            dict(asked), isolation_level=level, request_timeout=CALL_SECONDS
        ).items():
            try:
                found[place.topic, place.partition] = _result(future).offset
            except KafkaException as error:
                code = reason_of(error).code()
                if code in _MOVED:
                    self._client = AdminClient(self._config)
                    return None
                if code == KafkaError.OFFSET_NOT_AVAILABLE:  # a new leader does not know yet what all replicas have
                    return None
                if code not in GONE:
                    raise log_error(f"asking where {place.topic!r} ends", reason_of(error)) from None
        return found

    # --- groups

    def offsets(
        self, group: str, places: Iterable[TopicPlace] | None = None, *, stable: bool = True
    ) -> dict[TopicPlace, Offset]:
        """A group's committed offsets in some places, or all there are. If they are to be `stable`, one that an open
        transaction is about to move is waited for: it cannot be told before the transaction has ended (KIP-447). The
        first one of a place is seen to be about to come only if the place is asked for."""
        asked = None if places is None else [TopicPartition(*place) for place in places]
        return _patiently(lambda: self._offsets(group, asked, stable), _UNSTABLE_SECONDS)

    def _offsets(
        self, group: str, places: list[TopicPartition] | None, stable: bool
    ) -> dict[TopicPlace, Offset] | None:
        asked = [ConsumerGroupTopicPartitions(group, places)]
        try:
            found = self._client.list_consumer_group_offsets(
                asked, require_stable=stable, request_timeout=_GROUP_SECONDS
            )
            places = _result(found[group]).topic_partitions
        except KafkaException as error:
            if self._reason(error).code() in _UNSETTLED:
                return None
            raise log_error(f"asking where the group {group!r} is", reason_of(error)) from None
        if any(place.error is not None and place.error.code() in _UNSETTLED for place in places):
            return None
        failed = next((place.error for place in places if place.error is not None), None)
        if failed is not None:
            raise log_error(f"asking where the group {group!r} is", failed)
        return {
            (place.topic, place.partition): Offset(place.offset, place.metadata)
            for place in places
            if place.offset >= 0
        }

    def alter_offsets(self, group: str, places: Sequence[TopicPartition]) -> bool:
        """Commit offsets of a group that has no members; False if it has some."""
        found = self._client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, list(places))])
        try:
            errors = [place.error for place in _result(found[group]).topic_partitions if place.error is not None]
        except KafkaException as error:
            errors = [self._reason(error)]
        if not errors:
            return True
        if errors[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP):
            return False
        raise log_error(f"giving the group {group!r} a position", errors[0])

    def members(self, groups: Sequence[str]) -> dict[str, int]:
        """How many live members each group has."""
        if not groups:
            return {}
        described = self._client.describe_consumer_groups(list(groups), request_timeout=CALL_SECONDS)
        counts: dict[str, int] = {}
        for group, future in described.items():
            try:
                counts[group] = len(_result(future).members)
            except KafkaException as error:
                if self._reason(error).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise log_error(f"asking who is in the group {group!r}", reason_of(error)) from None
                counts[group] = 0
        return counts

    def _reason(self, error: KafkaException) -> KafkaError:
        """Why a question about a group has failed. One that nobody has answered may be for a coordinator that has gone,
        which the client asks for ever (librdkafka#5511); so another client takes its place."""
        reason = reason_of(error)
        if reason.code() == KafkaError._TIMED_OUT:
            self._client = AdminClient(self._config)
        return reason

    def topics(self) -> frozenset[str]:
        """The names of all topics."""
        try:
            return frozenset(self._client.list_topics(timeout=CALL_SECONDS).topics)
        except KafkaException as error:
            raise log_error("asking for the topics", reason_of(error)) from None

    def groups(self) -> Sequence[str]:
        """The ids of all groups."""
        try:
            listed = _result(self._client.list_consumer_groups(request_timeout=CALL_SECONDS))
        except KafkaException as error:
            raise log_error("asking for the groups", reason_of(error)) from None
        return sorted(group.group_id for group in listed.valid)

    def delete_groups(self, groups: Sequence[str]) -> None:
        """Forget groups, which have no members. Those that are not there are fine."""
        for group, future in (self._client.delete_consumer_groups(list(groups)) if groups else {}).items():
            try:
                _result(future)
            except KafkaException as error:
                if self._reason(error).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise log_error(f"deleting the group {group!r}", reason_of(error)) from None


_MOVED = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)

_UNSETTLED = frozenset(
    {
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._TIMED_OUT,
    }
)


def _result(future: Future[Any]) -> Any:
    return future.result(2 * CALL_SECONDS)


def _patiently(look: Callable[[], T | None], seconds: float = CALL_SECONDS) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() >= deadline:
            raise LogUnavailableError(f"Kafka has not settled within {seconds:g} s; see what the brokers say")
        time.sleep(_PAUSE_SECONDS)
    return found
