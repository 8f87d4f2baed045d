"""A log on a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.kafka_logs import fresh_prefix

from millstream.clock import SystemClock
from millstream.log.kafka import Cluster, KafkaLog


@pytest.fixture
def cluster(kafka_servers: str) -> Cluster:
    """The broker, with names of the test's own."""
    return Cluster(kafka_servers, fresh_prefix(), session_seconds=120.0)


@pytest.fixture
async def kafka_log(cluster: Cluster) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(cluster, SystemClock())
    yield log
    await log.close()
