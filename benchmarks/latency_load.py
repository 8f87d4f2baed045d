"""A paced load and a subscriber in one: `python -m benchmarks.latency_load`, a process of its own.

It publishes at a fixed rate at QoS 1, whatever the server does, and measures from the moment at which a publish was
*due* to the moment at which its answer is at the subscriber: so a server that stalls is not spared by a generator that
waits for it (Tene's "coordinated omission"). Readings are numbered; the answer to a reading carries its number, or (a
window's) that of the same device's reading before it, which it closes.

It prints one line of JSON, the fields of `Latency`.
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
from datetime import UTC, datetime, timedelta

from benchmarks.load import connect_packet, open_connection, subscribe_packet

DEVICES = 100
PERCENTILES = (50.0, 90.0, 99.0, 99.9)

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(rb'"n":(\d+)[,}]')
_LAST_SECONDS = 10.0  # for what is under way at the end


@dataclass(frozen=True, slots=True)
class Load:
    """Publish on `topic`/DEVICE `rate` times a second, for `seconds` after `warm_up` seconds, and listen to `answers`.
    `closes`: an answer has the number of the device's reading before."""

    port: int
    topic: str
    answers: str
    rate: int
    warm_up: float
    seconds: float
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds by percentile, as text; of how many answers; and how many never came."""

    milliseconds: dict[str, float]
    answers: int
    missing: int


class Subscriber:
    """Takes what comes, and remembers when each number came."""

    def __init__(self, connected: socket.socket, answers: str) -> None:
        connected.sendall(subscribe_packet(answers, qos=0))
        if connected.recv(5)[:2] != b"\x90\x03":
            raise OSError("the subscription was not granted")
        self.socket = connected
        self.arrivals: dict[int, float] = {}
        self._data = b""

    def take(self) -> None:
        now = time.perf_counter()
        self._data += self.socket.recv(1 << 18)
        end = 0
        for found in _NUMBER.finditer(self._data):
            self.arrivals.setdefault(int(found[1]), now)
            end = found.end()
        self._data = self._data[end:]


def reading(topic: str, number: int) -> bytes:
    """A PUBLISH (QoS 1) of a numbered reading."""
    name = f"{topic}/device-{number % DEVICES:03}".encode()
    time = (_BEGIN + timedelta(seconds=number // DEVICES)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = len(name).to_bytes(2) + name + (number % 0xFFFF + 1).to_bytes(2)
    body += f'{{"ts":"{time}","n":{number}}}'.encode()
    return b"\x32" + bytes([len(body)]) + body


def run(load: Load) -> Latency:
    """Publish, and wait for the answers."""
    subscriber = Subscriber(open_connection(load.port, connect_packet("latency-subscriber")), load.answers)
    publisher = open_connection(load.port, connect_packet("latency-publisher"))
    poller = select.poll()
    poller.register(subscriber.socket, select.POLLIN)
    poller.register(publisher, select.POLLIN)

    def wait(until: float) -> None:
        """Take what comes until then."""
        while (left := until - time.perf_counter()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                if descriptor == publisher.fileno():
                    publisher.recv(1 << 18)  # PUBACKs
                else:
                    subscriber.take()

    total = round((load.warm_up + load.seconds) * load.rate)
    measured = range(round(load.warm_up * load.rate), total)
    begin = time.perf_counter()
    sent = 0
    while sent < total:
        due = min(total, int((time.perf_counter() - begin) * load.rate) + 1)
        if due > sent:
            publisher.sendall(b"".join(reading(load.topic, number) for number in range(sent, due)))
            sent = due
        wait(begin + sent / load.rate)
    last = time.perf_counter() + _LAST_SECONDS
    distance = DEVICES if load.closes else 0
    wanted = [number for number in measured if number - distance >= 0]
    while time.perf_counter() < last and any(number - distance not in subscriber.arrivals for number in wanted):
        wait(time.perf_counter() + 0.1)
    spans = sorted(
        subscriber.arrivals[number - distance] - (begin + number / load.rate)
        for number in wanted
        if number - distance in subscriber.arrivals
    )
    publisher.close()
    subscriber.socket.close()
    return Latency(percentiles(spans), len(spans), len(wanted) - len(spans))


def percentiles(spans: list[float]) -> dict[str, float]:
    """Of ascending seconds, in milliseconds: the smallest value that so many percent do not exceed."""
    return {f"{p:g}": 1000 * spans[min(len(spans) - 1, int(len(spans) * p / 100))] for p in PERCENTILES if spans}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("port", "rate"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("topic", "answers"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--closes", action="store_true", help="an answer has the number of the reading before")
    result = run(Load(**vars(parser.parse_args())))
    sys.stdout.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()
