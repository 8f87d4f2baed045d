"""Kafka brokers for tests: real ones, in KRaft mode, in folders and on ports of their own.

The jars come from Maven Central by `make kafka` (which `.ci/run` calls); without them, the tests that need them are
skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.ports import reserved_port

JARS = Path(__file__).parents[2] / ".ci/kafka"
WHY_NOT = "Kafka's jars are not in .ci/kafka; `make kafka` gets them from Maven Central (it needs Java 17 and Maven)"
REQUIRED = "MILLSTREAM_REQUIRE_KAFKA"

_START_SECONDS = 240.0
_SMALL = ("-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def missing() -> str | None:
    """Why there can be no broker; None if there can."""
    return None if any(JARS.glob("kafka_*.jar")) and shutil.which("java") else WHY_NOT


class Broker:
    """One broker that is its own controller, or one of several."""

    def __init__(
        self, folder: Path, port: int, lines: Mapping[str, str], others: Mapping[str, int], java: Sequence[str]
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self.addresses = {name: f"127.0.0.1:{its}" for name, its in others.items()}
        self._port = port
        self._folder = folder
        self._java = java
        self._properties = folder / "server.properties"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        self._process: subprocess.Popen[bytes] | None = None

    def format(self, cluster: str) -> None:
        """Prepare the folder, as `kafka-storage.sh format` does."""
        arguments = ["format", "-t", cluster, "-c", str(self._properties)]
        subprocess.run(_java(_SMALL, "kafka.tools.StorageTool", arguments), check=True, capture_output=True)

    def start(self) -> None:
        """Start it; it answers a moment later, see `wait`."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                _java(self._java, "kafka.Kafka", [str(self._properties)]), stdout=log, stderr=log, cwd=self._folder
            )

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It stays connected, and does nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def output(self) -> str:
        """What it has said, the last of it."""
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-30:])

    def wait(self) -> None:
        """Return when it answers a client."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        for _ in range(int(_START_SECONDS)):
            with suppress(KafkaException):
                client.list_topics(timeout=1)
                return
            assert self._process is not None
            assert self._process.poll() is None, self.output()
        raise AssertionError(f"Kafka does not answer:\n{self.output()}")


@contextmanager
def brokers(
    count: int = 1,
    more: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    java: Sequence[str] = _SMALL,
) -> Iterator[Sequence[Broker]]:
    """A cluster of so many brokers, which has started. `more` are further properties of all of them, `listeners`
    further listeners of each (name → protocol), see `Broker.addresses`, and `java` the options of the runtime."""
    protocols = listeners or {}
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="millstream-kafka-"))
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        ports = [reserved_port() for _ in range(2 * count)]
        voters = ",".join(f"{number}@127.0.0.1:{ports[2 * number]}" for number in range(count))
        found = []
        for number in range(count):
            its = folder / str(number)
            its.mkdir()
            port, controller = ports[2 * number + 1], ports[2 * number]
            others = {name: reserved_port() for name in protocols}
            lines = _properties(its, number, port, controller, voters, count) | dict(more or {})
            for name, other in others.items():
                lines["listeners"] += f",{name}://127.0.0.1:{other}"
                lines["advertised.listeners"] += f",{name}://127.0.0.1:{other}"
                lines["listener.security.protocol.map"] += f",{name}:{protocols[name]}"
            found.append(Broker(its, port, lines, others, java))
        cluster = _cluster_id()
        for broker in found:
            broker.format(cluster)
            ending.callback(broker.kill)
            broker.start()
        for broker in found:
            broker.wait()
        yield found


def in_sync(servers: str, copies: int) -> bool:
    """Whether every partition has so many copies that are up to date."""
    from confluent_kafka.admin import AdminClient

    topics = AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=60).topics.values()
    return all(len(partition.isrs) >= copies for topic in topics for partition in topic.partitions.values())


def _properties(folder: Path, number: int, port: int, controller: int, voters: str, count: int) -> dict[str, str]:
    copies = str(min(count, 3))
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": voters,
        "listeners": f"CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{port}",
        "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENTS",
        "log.dirs": str(folder / "data"),
        "num.partitions": "1",
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.min.isr": "1" if count < 3 else "2",
        "default.replication.factor": copies,
        "min.insync.replicas": "1" if count < 3 else "2",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "auto.create.topics.enable": "false",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "broker.session.timeout.ms": "60000",  # a busy machine is no dead broker
        "controller.quorum.fetch.timeout.ms": "30000",
        "controller.quorum.request.timeout.ms": "30000",
        "log.cleaner.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "log.flush.offset.checkpoint.interval.ms": "600000",
    }


def _java(options: Sequence[str], main: str, arguments: Sequence[str]) -> list[str]:
    java = shutil.which("java")
    assert java is not None, WHY_NOT
    return [java, *options, "-Djava.awt.headless=true", "-cp", f"{JARS}{os.sep}*", main, *arguments]


def _cluster_id() -> str:
    import base64

    found = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return _cluster_id() if found.startswith("-") else found  # which the tool takes for an option
