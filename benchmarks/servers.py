"""The MQTT servers that are compared, each started fresh on a free port with its data in a folder that is given."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import peers
from benchmarks.load import connect_packet, open_connection, subscribe_packet
from benchmarks.process import free_port, running


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. `stored()`: how many publishes it has stored, None where it stores none."""

    port: int
    pid: int
    stored: Callable[[], int | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be started. `promise`: what an acknowledgement means there."""

    name: str
    promise: str
    start: Callable[[Path], AbstractContextManager[Running]]


def answers(port: int) -> Callable[[], bool]:
    """Whether an MQTT server on this port accepts a connection."""

    def probe() -> bool:
        try:
            open_connection(port, connect_packet("bench-probe")).close()
        except OSError:
            return False
        return True

    return probe


@contextmanager
def mosquitto(folder: Path, more: str = "") -> Iterator[Running]:
    """Mosquitto with persistence on and without Nagle's delay, and with `more` lines of configuration. Where nobody
    subscribes it has nothing to queue: its fastest case."""
    port = free_port()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\n"
        "allow_anonymous true\n"
        "user root\n"  # else it changes to a user who may not write in our folder; without root it has no meaning
        "persistence true\n"
        f"persistence_location {folder}/\n"
        "set_tcp_nodelay true\n"
        "log_dest none\n" + more
    )
    command = [peers.mosquitto(), "-c", configuration]
    with running(command, output=folder / "output", ready=answers(port)) as pid:
        yield Running(port, pid)


def nats(sync: str | None) -> Callable[[Path], AbstractContextManager[Running]]:
    """NATS with JetStream on disk and its MQTT gateway, at its default interval of fsync or at `sync`."""

    @contextmanager
    def start(folder: Path) -> Iterator[Running]:
        port, monitor = free_port(), free_port()
        configuration = folder / "nats.conf"
        configuration.write_text(
            f'server_name: bench\nlisten: "127.0.0.1:{free_port()}"\nhttp: "127.0.0.1:{monitor}"\n'
            f'jetstream {{ store_dir: "{folder}"{f", sync_interval: {sync}" if sync else ""} }}\n'
            f'mqtt {{ listen: "127.0.0.1:{port}" }}\n'
        )
        command = [peers.nats_server(), "-c", configuration]
        with running(command, output=folder / "output", ready=answers(port)) as pid:
            _keep_interest(port)
            yield Running(port, pid, lambda: _nats_stored(monitor))

    return start


def _keep_interest(port: int) -> None:
    """Leave a persistent session behind that subscribes to everything, and is away. The stream behind NATS's MQTT
    has interest retention: without such a subscriber it acknowledges QoS 1 and stores nothing."""
    session = open_connection(port, connect_packet("bench-interest", clean=False))
    session.sendall(subscribe_packet("site/#"))
    if session.recv(5) != b"\x90\x03\x00\x01\x01":
        raise OSError("NATS did not grant the subscription")
    session.close()


def _nats_stored(monitor: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/jsz?streams=true", timeout=10) as answer:
        accounts = json.load(answer)["account_details"]
    streams = [stream for account in accounts for stream in account["stream_detail"]]
    return int(next(stream["state"]["messages"] for stream in streams if stream["name"] == "$MQTT_msgs"))


@contextmanager
def amqtt(folder: Path) -> Iterator[Running]:
    """amqtt, a broker in pure Python, with nothing but anonymous access."""
    port = free_port()
    configuration = folder / "amqtt.yaml"
    configuration.write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n    max_connections: 10000\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
    )
    command = [peers.environment("amqtt") / "bin" / "amqtt", "-c", configuration]
    with running(command, output=folder / "output", ready=answers(port)) as pid:
        yield Running(port, pid)


def millstream(workers: int) -> Callable[[Path], AbstractContextManager[Running]]:
    """Millstream with the two streams of `benchmarks/plant.py`, and with workers that run its query."""

    def start(folder: Path) -> AbstractContextManager[Running]:
        return serve_app("plant.py", folder / "data", folder / "output", workers)

    return start


@contextmanager
def serve_app(
    app: str,
    data: Path,
    output: Path,
    workers: int,
    http: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """`millstream run` with an application (a file of this folder, or a reference); what it prints goes to the file
    `output`. `http` is the port for HTTP, if it matters; `environment` has more settings."""
    port = free_port()
    command = [
        *(Path(sys.executable).with_name("millstream"), "run", Path(__file__).parent / app, "--allow-anonymous"),
        *("--data", data, "--mqtt", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http or free_port()}"),
        *("--workers", workers),
    ]

    def ready() -> bool:
        return any(line.startswith(b"ready") for line in output.read_bytes().splitlines())

    with running(command, output=output, ready=ready, environment=environment) as pid:
        yield Running(port, pid)


MOSQUITTO = Server("Mosquitto", "in memory, a snapshot now and then", mosquitto)
MOSQUITTO_PUBSUB = Server(
    "Mosquitto", "in memory", partial(mosquitto, more="max_inflight_messages 1000\nmax_queued_messages 0\n")
)
NATS = Server("NATS JetStream", "written, fsync every 2 minutes", nats(None))
NATS_ALWAYS = Server("NATS JetStream, `sync_interval: always`", "on disk", nats("always"))
AMQTT = Server("amqtt", "in memory", amqtt)
MILLSTREAM = Server("Millstream", "on disk", millstream(0))
MILLSTREAM_WORKER = Server("Millstream with a worker", "on disk", millstream(1))
