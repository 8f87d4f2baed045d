"""Brokers that ask who we are, and show who they are, as the settings tell it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from tests.support.certificates import make_certificate
from tests.support.kafka import Broker, brokers
from tests.support.kafka_logs import fresh_prefix
from tests.support.records import append, contents, gain

from millstream.clock import SystemClock
from millstream.errors import LogUnavailableError
from millstream.log import EARLIEST, StreamSpec
from millstream.log.kafka import Cluster, KafkaLog
from millstream.settings import KafkaSettings, LogSettings

pytestmark = pytest.mark.kafka

LISTENERS = {"SASL": "SASL_PLAINTEXT", "BOTH": "SASL_SSL", "MUTUAL": "SSL"}
PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_millstream="secret";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
MECHANISMS = {"plain": PLAIN, "scram-sha-256": SCRAM, "scram-sha-512": SCRAM}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates (`NAME.crt`) and keys: the broker's (`localhost`), an authority, a client's of it (`plant`), a
    stranger's."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, by in (("localhost", None), ("authority", None), ("plant", "authority"), ("stranger", None)):
        text = make_certificate(folder, name, by).read_text()
        (folder / f"{name}.crt").write_text(text.partition("-----BEGIN PRIVATE KEY")[0])
    return folder


@pytest.fixture(scope="module")
def broker(kafka_servers: str, folder: Path) -> Iterator[Broker]:
    """One that asks for user and password (SASL), that and TLS (BOTH), or for TLS with a certificate (MUTUAL)."""
    asking = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        **{
            f"listener.name.{name}.{mechanism}.sasl.jaas.config": module
            for name in ("sasl", "both")
            for mechanism, module in MECHANISMS.items()
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "localhost.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "authority.crt"),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    with brokers(1, asking, LISTENERS) as (broker,):
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            user = UserScramCredentialUpsertion("millstream", ScramCredentialInfo(mechanism, 4096), b"secret")
            admin = AdminClient({"bootstrap.servers": broker.address})
            admin.alter_user_scram_credentials([user])["millstream"].result()
        yield broker


async def opened(broker: Broker, listener: str, **kafka: object) -> KafkaLog:
    """A log with these settings of `[log.kafka]`."""
    settings = KafkaSettings(prefix=fresh_prefix(), **kafka)  # type: ignore[arg-type]
    url = f"kafka://{broker.addresses[listener]}"
    return await KafkaLog.open(Cluster.of(LogSettings(url=url, kafka=settings)), SystemClock())


async def works(log: KafkaLog) -> None:
    """A stream is made, written, read, and read in a group: by every kind of client that there is."""
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "x")
    assert await contents(log, "a") == ["x"]
    await gain(await log.join("g", ["a"], start=EARLIEST))
    assert [group.name for group in await log.groups()] == ["g"]
    await log.close()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_user_with_its_password_is_let_in(broker: Broker, mechanism: str) -> None:
    await works(await opened(broker, "SASL", mechanism=mechanism, username="millstream", password="secret"))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_told(broker: Broker, mechanism: str) -> None:
    with pytest.raises(LogUnavailableError, match="user and password"):
        await opened(broker, "SASL", mechanism=mechanism, username="millstream", password="wrong")


async def test_a_password_goes_through_tls(broker: Broker, folder: Path) -> None:
    await works(
        await opened(broker, "BOTH", username="millstream", password="secret", tls=True, ca=folder / "localhost.crt")
    )


async def test_a_broker_that_nobody_vouches_for_is_refused(broker: Broker, folder: Path) -> None:
    with pytest.raises(LogUnavailableError, match="of TLS"):
        await opened(broker, "BOTH", username="millstream", password="secret", tls=True, ca=folder / "authority.crt")


async def test_a_certificate_of_our_own_lets_us_in(broker: Broker, folder: Path) -> None:
    ours = {"certificate": folder / "plant.crt", "key": folder / "plant.key"}
    await works(await opened(broker, "MUTUAL", tls=True, ca=folder / "localhost.crt", **ours))


@pytest.mark.parametrize("name", ["stranger", None])
async def test_nobody_else_is_let_in(broker: Broker, folder: Path, name: str | None) -> None:
    theirs = {"certificate": folder / f"{name}.crt", "key": folder / f"{name}.key"} if name else {}
    with pytest.raises(LogUnavailableError, match="of TLS"):
        await opened(broker, "MUTUAL", tls=True, ca=folder / "localhost.crt", **theirs)
