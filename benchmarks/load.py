"""The load generator for MQTT 3.1.1, QoS 1: `python -m benchmarks.load`, a process of its own on a core of its own.

Every connection keeps a fixed number of publishes in flight: for as many PUBACKs as one read brings, one write sends
as many new packets. To be faster than every server, it encodes nothing while it runs. The packets of a
connection are one byte string, repeated in a cycle that is longer than what may be in flight (so no packet id is used
twice at a time), and the next n packets are a slice of it. The PUBACKs that must come back are another byte string,
so every acknowledgement is checked by comparing slices; the order of PUBACKs is a rule of the protocol (4.6).

It prints one line of JSON, the fields of `Result`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.process import cpu_seconds, family

PAYLOAD_BYTES = 64

_CONNECT_GROUP = 50  # at a time, under the listen backlog of every server (asyncio's is 100)
_MIN_CYCLE = 64
_TIMEOUT = 30.0  # for connecting and for what is in flight at the end


class LoadError(Exception):
    """The server did something that the protocol forbids, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to do: where, with how many connections, how many publishes in flight on each, from how many devices on
    each, and for how many seconds."""

    port: int
    connections: int
    in_flight: int
    devices: int
    warm_up: float
    seconds: float
    watch: int = 0
    """A process whose processor time (with its descendants') is measured over the same span."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `rate`: acknowledged publishes a second in the measured span. `acknowledged`: all of them, also
    before and after the span. `own_cpu` and `watched_cpu`: cores kept busy, by the generator and by the watched."""

    rate: float
    acknowledged: int
    own_cpu: float
    watched_cpu: float


class Publisher:
    """One connection: what it sends, what must come back, and how far both are (in packets and in bytes)."""

    __slots__ = ("acks", "awaited", "cycle", "packet_bytes", "packets", "received", "sent", "socket")

    def __init__(self, connected: socket.socket, packets: Sequence[bytes], in_flight: int) -> None:
        self.socket = connected
        self.cycle = len(packets)
        self.packet_bytes = len(packets[0])
        self.packets = memoryview(b"".join(packets) + b"".join(packets[:in_flight]))  # a slice never wraps
        acks = b"".join(b"\x40\x02" + packet_id.to_bytes(2) for packet_id in range(1, self.cycle + 1))
        self.acks = acks + acks[: 4 * in_flight]
        self.sent = 0  # place in the cycle of the next packet to send
        self.awaited = 0  # place in `acks` of the next byte to come
        self.received = 0  # bytes in all

    def publish(self, count: int) -> None:
        """Send the next packets."""
        begin = self.sent * self.packet_bytes
        data = self.packets[begin : begin + count * self.packet_bytes]
        self.sent = (self.sent + count) % self.cycle
        written = self.socket.send(data)
        while written < len(data):  # rare: what is in flight fits a socket buffer
            select.select([], [self.socket], [], _TIMEOUT)
            written += self.socket.send(data[written:])

    def take(self, data: bytes) -> int:
        """Check what came; how many acknowledgements it completed."""
        end = self.awaited + len(data)
        if not data or data != self.acks[self.awaited : end]:
            raise LoadError(
                f"expected PUBACKs {self.acks[self.awaited : end][:16].hex()}…, got {data[:16].hex() or 'an end'}"
            )
        self.awaited = end % (4 * self.cycle)
        before = self.received
        self.received += len(data)
        return (self.received >> 2) - (before >> 2)


def packets_of(connection: int, devices: int, in_flight: int) -> list[bytes]:
    """A cycle of PUBLISH packets, all of one length, from the devices of this connection in turn. The readings are
    random, so that compression finds in them what it finds in real ones."""
    rounds = -(-max(_MIN_CYCLE, 2 * in_flight) // devices)
    chance = random.Random(connection)
    packets = []
    for packet_id in range(1, rounds * devices + 1):
        topic, payload = _reading(chance, connection, connection * devices + packet_id % devices)
        packets.append(_publish(topic, packet_id, payload))
    return packets


def readings(count: int, devices: int) -> list[tuple[str, bytes]]:
    """Topics and payloads, from so many devices in turn."""
    chance = random.Random(0)
    return [_reading(chance, number % devices, number % devices) for number in range(count)]


def _reading(chance: random.Random, site: int, device: int) -> tuple[str, bytes]:
    payload = (
        f'{{"ts":"2026-01-01T00:{chance.randrange(60):02}:{chance.randrange(60):02}.{chance.randrange(1000):03}Z"'
        f',"celsius":{chance.uniform(10, 99):.3f},"speed":{chance.randrange(10_000, 99_999)}}}'
    ).encode()
    return f"site/{site % 10}/device-{device:05}/telemetry", payload


def _publish(topic: str, packet_id: int, payload: bytes) -> bytes:
    if len(payload) != PAYLOAD_BYTES:
        raise AssertionError(f"a payload of {len(payload)} bytes")
    name = topic.encode()
    body = len(name).to_bytes(2) + name + packet_id.to_bytes(2) + payload
    if len(body) > 127:
        raise AssertionError("the length needs a second byte")
    return b"\x32" + bytes([len(body)]) + body  # QoS 1, no DUP, no RETAIN


def connect_packet(client_id: str, *, clean: bool = True) -> bytes:
    """CONNECT of MQTT 3.1.1 with a keep-alive of ten minutes, longer than any run."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + (600).to_bytes(2) + len(name).to_bytes(2) + name
    return b"\x10" + bytes([len(body)]) + body


def subscribe_packet(topic_filter: str, qos: int = 1) -> bytes:
    """SUBSCRIBE to one filter, with packet id 1."""
    name = topic_filter.encode()
    body = b"\x00\x01" + len(name).to_bytes(2) + name + bytes([qos])
    return b"\x82" + bytes([len(body)]) + body


def open_connection(port: int, connect: bytes) -> socket.socket:
    """One connection that has its CONNACK. Raises `OSError`."""
    one = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
    try:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.sendall(connect)
        _expect_connack(one)
    except BaseException:
        one.close()
        raise
    return one


def _expect_connack(connected: socket.socket) -> None:
    answer = connected.recv(4)
    if answer != b"\x20\x02\x00\x00":
        raise ConnectionError(f"expected a CONNACK, got {answer.hex() or 'an end'}")


def connect_all(port: int, count: int) -> list[socket.socket]:
    """Connections that have their CONNACK, some at a time."""
    connected: list[socket.socket] = []
    for start in range(0, count, _CONNECT_GROUP):
        group = []
        for number in range(start, min(start + _CONNECT_GROUP, count)):
            one = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.sendall(connect_packet(f"bench-{os.getpid()}-{number}"))
            group.append(one)
        for one in group:
            _expect_connack(one)
        connected += group
    return connected


def allow_files(count: int) -> None:
    """Raise the limit of open files, as far as the system lets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(load: Load) -> Result:
    """Connect, publish through the warm-up and the measured span, wait for what is in flight, disconnect."""
    allow_files(load.connections + 100)
    publishers = [
        Publisher(connected, packets_of(number, load.devices, load.in_flight), load.in_flight)
        for number, connected in enumerate(connect_all(load.port, load.connections))
    ]
    poller = select.epoll()
    by_descriptor = {}
    for publisher in publishers:
        publisher.socket.setblocking(False)
        poller.register(publisher.socket, select.EPOLLIN)
        by_descriptor[publisher.socket.fileno()] = publisher
    try:
        for publisher in publishers:
            publisher.publish(load.in_flight)
        acknowledged = _pump(poller, by_descriptor, load.warm_up, refill=True)
        watched = family(load.watch) if load.watch else []
        own_begin, watched_begin, begin = time.process_time(), cpu_seconds(watched), time.perf_counter()
        measured = _pump(poller, by_descriptor, load.seconds, refill=True)
        span = time.perf_counter() - begin
        own, its = time.process_time() - own_begin, cpu_seconds(watched) - watched_begin
        acknowledged += measured + _pump(poller, by_descriptor, _TIMEOUT, refill=False)
    finally:
        for publisher in publishers:
            publisher.socket.close()
        poller.close()
    return Result(measured / span, acknowledged, own / span, its / span)


def _pump(poller: select.epoll, by_descriptor: dict[int, Publisher], seconds: float, *, refill: bool) -> int:
    """Take acknowledgements for some seconds, and send a new packet for each if `refill`; else return as soon as
    nothing is in flight. How many came."""
    count = 0
    waiting = len(by_descriptor)
    now = time.perf_counter()
    quiet = now + _TIMEOUT
    end = now + seconds
    while now < end and (refill or waiting):
        events = poller.poll(0.1)
        now = time.perf_counter()
        if events:
            quiet = now + _TIMEOUT
        elif now > quiet:
            raise LoadError(f"no PUBACK for {_TIMEOUT:.0f} s")
        for descriptor, _ in events:
            publisher = by_descriptor[descriptor]
            completed = publisher.take(os.read(descriptor, 65_536))
            count += completed
            if refill:
                if completed:
                    publisher.publish(completed)
            elif publisher.awaited == 4 * publisher.sent % (4 * publisher.cycle):
                waiting -= 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("port", "connections", "in-flight", "devices"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--watch", type=int, default=0, help="process id whose processor time is measured")
    result = run(Load(**vars(parser.parse_args())))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
