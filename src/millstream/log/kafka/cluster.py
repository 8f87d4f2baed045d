"""Which brokers, and how every client of ours is set up.

The names of librdkafka's properties are those of its `CONFIGURATION.md`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from millstream.settings import KafkaSettings, LogSettings

MAX_RECORD_BYTES = 8 << 20
"""The largest record that our topics take: an event of the gateway's largest packet, with room for its attributes."""

CALL_SECONDS = 30.0
"""For one call of a client that waits for an answer. What takes longer is tried again, or told as unavailable."""

_TRANSACTION_SECONDS = 15.0
"""After so long the brokers abort a transaction whose producer is gone; readers of its topics wait until then."""

_SAID_AGAIN_SECONDS = 60.0
_VARYING = re.compile(r"\d+|\[[^\]]*\]")  # numbers, and which client and thread says it


class _SaidOnce(logging.Filter):
    """Lets a message through once a minute, whichever of our many clients says it: while brokers are away, each of them
    says so several times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it has not been said lately."""
        text = _VARYING.sub("", record.getMessage())
        if record.created - self._said.get(text, 0.0) < _SAID_AGAIN_SECONDS:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[text] = record.created
        return True


_log = logging.getLogger(__name__)
_log.addFilter(_SaidOnce())


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the brokers are. `prefix` stands before the names of all topics and groups; `replication` is that of topics
    that are made (-1: as the brokers' default says); `session_seconds` is how long a member of a group may be silent;
    `options` are librdkafka's own. Retention is that of streams that say none."""

    servers: str
    prefix: str = ""
    replication: int = -1
    session_seconds: float = 20.0
    options: Mapping[str, str] = field(default_factory=dict)
    retention_age: timedelta | None = None
    retention_bytes: int | None = None

    @classmethod
    def of(cls, settings: LogSettings) -> Cluster:
        """As the settings say; their `url` is set."""
        kafka = settings.kafka
        return cls(
            settings.url.removeprefix("kafka://").rstrip("/"),
            kafka.prefix,
            kafka.replication or -1,
            kafka.session_timeout.total_seconds(),
            {**_security(kafka), **kafka.options},
            settings.retention_age,
            settings.retention_bytes,
        )

    def admin(self) -> dict[str, Any]:
        """For an `AdminClient`."""
        return self._common()

    def reader(self, fetch_wait_ms: int) -> dict[str, Any]:
        """For a `Consumer` that is told what to read, and never joins a group; it sees what is committed. The brokers
        hold a fetch for `fetch_wait_ms` where there is nothing yet."""
        return {
            **self._common(),
            "group.id": f"{self.prefix}millstream.reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": fetch_wait_ms,
            "fetch.error.backoff.ms": 100,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 1 << 20,
            "queued.max.messages.kbytes": 16 << 10,
            "max.poll.interval.ms": 86_400_000,
        }

    def member(self, group: str) -> dict[str, Any]:
        """For a `Consumer` that is a member of a group, and reads nothing."""
        session_ms = int(self.session_seconds * 1000)
        return {
            **self._common(),
            "group.id": group,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": max(100, min(500, session_ms // 10)),
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 500,
        }

    def producer(self, transactional_id: str | None) -> dict[str, Any]:
        """For a `Producer`, whose records are on all replicas in sync before they are told as delivered."""
        config = {
            **self._common(),
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "retry.backoff.ms": 5,  # for a transaction that has to wait until the one before has reached all partitions
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 256 << 10,
            "batch.size": 1 << 20,
        }
        if transactional_id is not None:
            config["transactional.id"] = transactional_id
            config["transaction.timeout.ms"] = int(_TRANSACTION_SECONDS * 1000)
        else:
            config["message.timeout.ms"] = int(CALL_SECONDS * 1000)
        return config | self._own()

    def _common(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.servers,
            "client.id": "millstream",
            "logger": _log,
            "log_level": 4,  # warnings
            "reconnect.backoff.max.ms": 1000,
            "topic.metadata.refresh.interval.ms": 60_000,
            "topic.metadata.propagation.max.ms": 5_000,
            "broker.address.family": "any",
            "statistics.interval.ms": 0,
            **self._own(),
        }

    def _own(self) -> dict[str, Any]:
        return dict(self.options)


def _security(kafka: KafkaSettings) -> dict[str, str]:
    """Who we are, and who the brokers have to be."""
    options: dict[str, str] = {}
    if kafka.username:
        options |= {
            "sasl.mechanism": kafka.mechanism,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password,
        }
    if kafka.tls:
        files = {
            "ssl.ca.location": kafka.ca,
            "ssl.certificate.location": kafka.certificate,
            "ssl.key.location": kafka.key,
        }
        options |= {name: str(path) for name, path in files.items() if path is not None}
    protocol = ("SASL_" if kafka.username else "") + ("SSL" if kafka.tls else "PLAINTEXT")
    return {"security.protocol": protocol.lower(), **options}
