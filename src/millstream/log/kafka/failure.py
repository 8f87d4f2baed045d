"""What librdkafka's errors mean to a log."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from millstream.errors import FencedError, LogError, LogUnavailableError, UnknownStreamError

FENCING = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    }
)
"""The member is none any more, or has not heard yet that the group has moved on."""

GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._NOENT,  # nobody leads it
    }
)
"""There is no such topic, or not that many partitions."""

MOVING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError._TRANSPORT,
        KafkaError._DESTROY_BROKER,
        KafkaError._UNKNOWN_PARTITION,  # of a topic that there is
    }
)
"""A broker has died or come back, and the client has not heard yet who leads now."""

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the user may not use the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "the user may not use the group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the user may not administer the cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "the user may not use transactions",
    KafkaError.SASL_AUTHENTICATION_FAILED: "the user or password is wrong",
    KafkaError._AUTHENTICATION: "the user or password is wrong",
    KafkaError._SSL: "TLS failed",
    KafkaError.INVALID_TIMESTAMP: "the clocks of this machine and of the brokers differ too much",
    KafkaError.NOT_ENOUGH_REPLICAS: "fewer replicas than min.insync.replicas are there",
}


def reason_of(error: KafkaException) -> KafkaError:
    """The error that an exception carries."""
    reason = error.args[0]
    assert isinstance(reason, KafkaError)
    return reason


def log_error(doing: str, reason: KafkaError) -> LogError:
    """The error of ours for what failed while `doing` something."""
    code = reason.code()
    told = f"Kafka: {doing}: {_REFUSED.get(code, 'failed')} ({reason.name()}: {reason.str()})"
    if code in GONE:
        return UnknownStreamError(told)
    if code in FENCING:
        return FencedError(told)
    if code in TOO_LARGE:
        return LogError(f"Kafka: {doing}: a record is too large for its topic ({reason.str()})")
    return LogUnavailableError(told)
