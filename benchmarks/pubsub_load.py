"""The load generator for pub/sub by MQTT 3.1.1, a process of its own: `python -m benchmarks.pubsub_load`.

Publishers and subscribers form groups. A group keeps a fixed number of messages on their way: for every message that
has reached all who must get it, the next publisher in turn sends another one. So nothing is lost by going too fast, and
a message that is missing stops the group, which is an error. Packets are made before and have one length in a group,
so that messages are counted by counting bytes; the first of every read is compared with what it must be.

It prints one line of JSON, the fields of `Result`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks.load import LoadError, allow_files, connect_all, subscribe_packet
from benchmarks.process import cpu_seconds, family

PAYLOAD = bytes(64)
_TIMEOUT = 30.0
_READ_BYTES = 1 << 18
_CYCLE = 2_000  # packets of a publisher, more than may be on their way
_FILTERS = 100  # of a subscriber that has many


@dataclass(frozen=True, slots=True)
class Result:
    """`rate`: messages a second that reached their subscribers. `own_cpu` and `watched_cpu`: cores kept busy, by the
    generator and by the server."""

    rate: float
    own_cpu: float
    watched_cpu: float


@dataclass(slots=True)
class Group:
    """`publishers` send in turn; each message reaches `copies` subscribers."""

    copies: int
    publishers: list[Publisher] = field(default_factory=list)
    owed: int = 0  # copies that came, and for which nothing was sent yet
    turn: int = 0

    def send(self, count: int) -> None:
        """Send so many messages, as evenly as can be."""
        each, more = divmod(count, len(self.publishers))
        for place in range(min(count, len(self.publishers))):
            publisher = self.publishers[(self.turn + place) % len(self.publishers)]
            publisher.send(each + (place < more))
        self.turn = (self.turn + more) % len(self.publishers)


class Publisher:
    """Sends its packets, over and over. What comes back to it are PUBACKs."""

    def __init__(self, connected: socket.socket, packets: Sequence[bytes]) -> None:
        self.socket = connected
        self._size = len(packets[0])
        self._packets = memoryview(b"".join(packets))
        self._sent = 0  # bytes of the cycle

    def send(self, count: int) -> None:
        """Send the next packets."""
        while count:
            end = min(self._sent + count * self._size, len(self._packets))
            count -= (end - self._sent) // self._size
            while self._sent < end:
                try:
                    self._sent += self.socket.send(self._packets[self._sent : end])
                except BlockingIOError:
                    select.select([], [self.socket], [], _TIMEOUT)
            self._sent %= len(self._packets)

    def take(self, data: bytes) -> int:
        """PUBACKs are not counted: messages that arrive are."""
        return 0


class Subscriber:
    """Counts what comes, and acknowledges it."""

    def __init__(self, connected: socket.socket, group: Group, packet_bytes: int, topic_bytes: int, qos: int) -> None:
        self.socket = connected
        self.group = group
        self._size = packet_bytes
        self._first = bytes((0x30 | qos << 1, packet_bytes - 2)) + topic_bytes.to_bytes(2)
        self._id = 4 + topic_bytes if qos else 0
        self._rest = b""

    def take(self, data: bytes) -> int:
        """Take what was read; how many messages it completed."""
        if self._rest:
            data = self._rest + data
        if not data.startswith(self._first[: len(data)]):
            raise LoadError(f"expected a PUBLISH {self._first.hex()}…, got {data[:16].hex() or 'an end'}")
        size, place = self._size, self._id
        count = len(data) // size
        self._rest = data[count * size :]
        if place and count:
            ids = [data[start : start + 2] for start in range(place, count * size, size)]
            self.socket.send(b"\x40\x02" + b"\x40\x02".join(ids))
        return count


def packet(topic: str, packet_id: int, qos: int) -> bytes:
    """A PUBLISH."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (packet_id.to_bytes(2) if qos else b"") + PAYLOAD
    return bytes((0x30 | qos << 1, len(body))) + body


Shape = Callable[[int, int], tuple[list[Group], list[Publisher | Subscriber]]]


def _fan(publishers: int, subscribers: int) -> Shape:
    """All on one topic."""

    def make(port: int, qos: int) -> tuple[list[Group], list[Publisher | Subscriber]]:
        return _group(connect_all(port, publishers + subscribers), "bench/fan/topic", qos, publishers, subscribers)

    return make


def _pairs(port: int, qos: int) -> tuple[list[Group], list[Publisher | Subscriber]]:
    """A hundred publishers, each with a subscriber of its own."""
    groups: list[Group] = []
    members: list[Publisher | Subscriber] = []
    connected = connect_all(port, 200)
    for number in range(100):
        found, its = _group(connected[2 * number : 2 * number + 2], f"bench/pair/{number:04}", qos, 1, 1)
        groups += found
        members += its
    return groups, members


def _wildcards(port: int, qos: int) -> tuple[list[Group], list[Publisher | Subscriber]]:
    """A thousand subscribers with a hundred filters each; each message matches one of these."""
    connected = connect_all(port, 1_010)
    subscribers, publishers = connected[:1_000], connected[1_000:]
    group = Group(copies=1)
    topics = [f"bench/{number % 7}/{number:06}/celsius" for number in range(1_000 * _FILTERS)]
    for start, one in enumerate(subscribers):
        for number in range(start * _FILTERS, (start + 1) * _FILTERS):
            _subscribe(one, f"bench/+/{number:06}/#", qos)
    chance = random.Random(1)
    sizes = len(packet(topics[0], 1, qos)), len(topics[0])
    members: list[Publisher | Subscriber] = [Subscriber(one, group, *sizes, qos) for one in subscribers]
    for one in publishers:
        its = [packet(chance.choice(topics), number + 1, qos) for number in range(10 * _CYCLE)]
        group.publishers.append(Publisher(one, its))
    return [group], [*members, *group.publishers]


def _group(
    connected: Sequence[socket.socket], topic: str, qos: int, publishers: int, subscribers: int
) -> tuple[list[Group], list[Publisher | Subscriber]]:
    packets = [packet(topic, number + 1, qos) for number in range(_CYCLE)]
    group = Group(copies=subscribers)
    group.publishers = [Publisher(one, packets) for one in connected[:publishers]]
    members: list[Publisher | Subscriber] = [*group.publishers]
    for one in connected[publishers:]:
        _subscribe(one, topic, qos)
        members.append(Subscriber(one, group, len(packets[0]), len(topic), qos))
    return [group], members


def _subscribe(one: socket.socket, topic_filter: str, qos: int) -> None:
    one.sendall(subscribe_packet(topic_filter, qos))
    answer = one.recv(5)
    if answer != b"\x90\x03\x00\x01" + bytes((qos,)):
        raise LoadError(f"expected a SUBACK, got {answer.hex() or 'an end'}")


SHAPES: dict[str, Shape] = {
    "fan-out": _fan(1, 1_000),
    "fan-in": _fan(1_000, 1),
    "pairs": _pairs,
    "wildcards": _wildcards,
}


def run(options: argparse.Namespace) -> Result:
    """Connect, let messages flow through the warm-up and the measured span, disconnect."""
    allow_files(3_000)
    groups, members = SHAPES[options.shape](options.port, options.qos)
    poller = select.epoll()
    by_descriptor = {}
    for member in members:
        member.socket.setblocking(False)
        poller.register(member.socket, select.EPOLLIN)
        by_descriptor[member.socket.fileno()] = member
    try:
        for group in groups:
            group.send(options.window)
        _pump(poller, by_descriptor, options.warm_up)
        watched = family(options.watch) if options.watch else []
        own_begin, watched_begin, begin = time.process_time(), cpu_seconds(watched), time.perf_counter()
        received = _pump(poller, by_descriptor, options.seconds)
        span = time.perf_counter() - begin
        own, its = time.process_time() - own_begin, cpu_seconds(watched) - watched_begin
    finally:
        for member in members:
            member.socket.close()
        poller.close()
    return Result(received / span, own / span, its / span)


def _pump(poller: select.epoll, by_descriptor: dict[int, Publisher | Subscriber], seconds: float) -> int:
    """Let messages flow for some seconds. How many came."""
    received = 0
    now = time.perf_counter()
    end, quiet = now + seconds, now + _TIMEOUT
    while now < end:
        events = poller.poll(0.1)
        now = time.perf_counter()
        due: dict[int, Group] = {}
        before = received
        for descriptor, _ in events:
            member = by_descriptor[descriptor]
            count = member.take(os.read(descriptor, _READ_BYTES))
            if count and isinstance(member, Subscriber):
                received += count
                member.group.owed += count
                due[id(member.group)] = member.group
        if received > before:
            quiet = now + _TIMEOUT
        elif now > quiet:
            raise LoadError(f"no message for {_TIMEOUT:.0f} s")
        for group in due.values():
            complete, group.owed = divmod(group.owed, group.copies)
            group.send(complete)
    return received


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), required=True)
    for name in ("port", "qos", "window"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("warm-up", "seconds"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--watch", type=int, default=0, help="process id whose processor time is measured")
    print(json.dumps(asdict(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
