"""Brokers that ask who we are, as the settings tell it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.kafka import brokers
from tests.support.records import append, contents, gain

from millstream.clock import SystemClock
from millstream.errors import LogUnavailableError
from millstream.log import EARLIEST, StreamSpec
from millstream.log.kafka import Cluster, KafkaLog
from millstream.settings import KafkaSettings, LogSettings

pytestmark = pytest.mark.kafka

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="broker" password="between" user_broker="between" user_millstream="secret";'
)
ASKING = {
    "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "listener.name.clients.plain.sasl.jaas.config": JAAS,
}


@pytest.fixture(scope="module")
def address(kafka_servers: str) -> Iterator[str]:
    """A broker that asks for a user and a password."""
    options = {
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "millstream",
        "sasl.password": "secret",
    }
    with brokers(1, ASKING, options) as (broker,):
        yield broker.address


async def test_a_user_with_its_password_is_let_in(address: str) -> None:
    kafka = KafkaSettings(mechanism="PLAIN", username="millstream", password="secret")
    log = await KafkaLog.open(Cluster.of(LogSettings(url=f"kafka://{address}", kafka=kafka)), SystemClock())
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "x")
    assert await contents(log, "a") == ["x"]
    await gain(await log.join("g", ["a"], start=EARLIEST))
    await log.close()


async def test_a_wrong_password_is_told(address: str) -> None:
    kafka = KafkaSettings(mechanism="PLAIN", username="millstream", password="wrong")
    with pytest.raises(LogUnavailableError, match="user and password"):
        await KafkaLog.open(Cluster.of(LogSettings(url=f"kafka://{address}", kafka=kafka)), SystemClock())
