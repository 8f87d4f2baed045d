"""The load generator for HTTP: `python -m benchmarks.http_load`, a process of its own on a core of its own.

Every connection is kept alive and has one request under way, as a device or a forwarder has. Requests are byte strings
that were made before; of an answer only the status and the length are looked at.

It prints one line of JSON, the fields of `Result`.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.load import PAYLOAD_BYTES, packets_of

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TIMEOUT = 30.0
_CYCLE = 64


@dataclass(frozen=True, slots=True)
class Load:
    """With how many connections, of how many events a request, for how long."""

    port: int
    connections: int
    events: int
    warm_up: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """`rate`: events acknowledged a second in the measured span; `acknowledged`: all of them."""

    rate: float
    acknowledged: int


class RequestError(Exception):
    """The server answered with something other than 2xx."""


class Client:
    """One connection with one request under way."""

    def __init__(self, port: int, number: int, events: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests_of(port, number, events)
        self._sent = 0
        self._answer = b""

    def send(self) -> None:
        self.socket.sendall(self._requests[self._sent % _CYCLE])
        self._sent += 1

    def take(self) -> bool:
        """Take what came; whether the answer is complete."""
        more = self.socket.recv(65_536)
        if not more:
            raise RequestError("the server closed the connection")
        self._answer += more
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 2"):
            raise RequestError(self._answer.decode(errors="replace"))
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return False
        self._answer = b""
        return True


def requests_of(port: int, number: int, events: int) -> list[bytes]:
    """A cycle of requests from one device: a reading each, or NDJSON of several."""
    readings = [packet[-PAYLOAD_BYTES:] for packet in packets_of(number, 1, _CYCLE)]
    content_type = "application/json" if events == 1 else "application/x-ndjson"
    requests = []
    for start in range(_CYCLE):
        body = b"\n".join(readings[(start + place) % len(readings)] for place in range(events))
        head = (
            f"POST /topics/site/{number % 10}/device-{number:05}/telemetry HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def run(load: Load) -> Result:
    """Send through the warm-up and the measured span, and wait for what is under way."""
    clients = {}
    poller = select.epoll()
    for number in range(load.connections):
        client = Client(load.port, number, load.events)
        clients[client.socket.fileno()] = client
        poller.register(client.socket, select.EPOLLIN)
        client.send()

    def pump(seconds: float, refill: bool) -> int:
        """Take answers for so long (or until all are there); how many events they acknowledge."""
        answers, end = 0, time.perf_counter() + seconds
        under_way = len(clients)
        while (left := end - time.perf_counter()) > 0 and under_way:
            for descriptor, _ in poller.poll(left):
                if clients[descriptor].take():
                    answers += 1
                    if refill:
                        clients[descriptor].send()
                    else:
                        under_way -= 1
        return answers * load.events

    acknowledged = pump(load.warm_up, refill=True)
    begin = time.perf_counter()
    measured = pump(load.seconds, refill=True)
    span = time.perf_counter() - begin
    acknowledged += measured + pump(_TIMEOUT, refill=False)
    for client in clients.values():
        client.socket.close()
    return Result(measured / span, acknowledged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("port", "connections", "events"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    sys.stdout.write(json.dumps(asdict(run(Load(**vars(parser.parse_args()))))) + "\n")


if __name__ == "__main__":
    main()
