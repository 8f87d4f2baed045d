"""A server's session and a client's, with connections that break and a server that dies between any two packets: QoS 2
arrives exactly once, QoS 1 at least once, and each in order, whatever of the memory was on disk."""

from __future__ import annotations

import copy
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from millstream.mqtt.memory import Flight, Memory
from millstream.mqtt.message import Message
from millstream.mqtt.outgoing import Outgoing

WINDOW = 3


class ToSubscriber(RuleBasedStateMachine):
    """The server's messages are numbers, at offsets of the same number. `disk` is what the server would have after a
    crash; it does what its owner does: of QoS 2, nothing is told before it is on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.qualities: list[int] = []  # by offset
        self.memory = Memory(durable=True)
        self.next = 0
        self.disk = (copy.deepcopy(self.memory), 0)
        self.waiting: list[tuple[str, int, int]] = []  # packets that wait for the disk
        self.wire: deque[tuple[str, int, int]] = deque()  # to the client: kind, packet identifier, number
        self.answers: deque[tuple[str, int]] = deque()  # to the server
        self.received: list[int] = []
        self.taken: set[int] = set()  # by the client: identifiers of QoS 2
        self.connect()

    def connect(self) -> None:
        self.wire.clear()
        self.answers.clear()
        self.waiting.clear()
        self.outgoing = Outgoing(WINDOW, 1 << 20)
        self.outgoing.accept(None, None, self.memory)
        for packet_id, flight in (self.memory.flights or {}).items():
            self.outgoing.resume()
            if flight.released:
                self.wire.append(("pubrel", packet_id, -1))
            else:
                self.wire.append(("publish", packet_id, flight.offset))

    @rule(qos=st.integers(1, 2))
    def publish(self, qos: int) -> None:
        self.qualities.append(qos)

    @precondition(lambda self: self.next < len(self.qualities) and self.outgoing.quota > 0)
    @rule()
    def send(self) -> None:
        qos = self.qualities[self.next]
        packet_id = self.outgoing.reserve(Flight(qos, self.next))
        (self.wire if qos == 1 else self.waiting).append(("publish", packet_id, self.next))
        self.next += 1

    @rule()
    def commit(self) -> None:
        self.disk = (copy.deepcopy(self.memory), self.next)
        self.wire.extend(self.waiting)
        self.waiting.clear()

    @precondition(lambda self: self.wire)
    @rule()
    def client_reads(self) -> None:
        kind, packet_id, number = self.wire.popleft()
        if kind == "pubrel":
            self.taken.discard(packet_id)
            self.answers.append(("pubcomp", packet_id))
        elif self.qualities[number] == 1:
            self.received.append(number)
            self.answers.append(("puback", packet_id))
        else:
            if packet_id not in self.taken:
                self.taken.add(packet_id)
                self.received.append(number)
            self.answers.append(("pubrec", packet_id))

    @precondition(lambda self: self.answers)
    @rule()
    def server_reads(self) -> None:
        kind, packet_id = self.answers.popleft()
        if kind == "puback":
            self.outgoing.acknowledge(packet_id)
        elif kind == "pubcomp":
            self.outgoing.complete(packet_id)
        elif self.outgoing.receive(packet_id, refused=False):
            self.waiting.append(("pubrel", packet_id, -1))

    @rule()
    def connection_breaks(self) -> None:
        """CONNACK of the next connection, too, waits until everything is on disk."""
        self.disk = (copy.deepcopy(self.memory), self.next)
        self.connect()

    @rule()
    def server_dies(self) -> None:
        memory, self.next = self.disk
        self.memory = copy.deepcopy(memory)
        self.connect()

    @invariant()
    def quality_2_comes_once_and_in_order(self) -> None:
        exact = [number for number in self.received if self.qualities[number] == 2]
        assert exact == sorted(set(exact))

    @invariant()
    def quality_1_comes_in_order(self) -> None:
        firsts = list(dict.fromkeys(number for number in self.received if self.qualities[number] == 1))
        assert firsts == sorted(firsts)

    @invariant()
    def no_more_than_the_window_is_open(self) -> None:
        unanswered = [packet for packet in (*self.wire, *self.waiting) if packet[0] == "publish"]
        assert len(unanswered) <= WINDOW

    def teardown(self) -> None:
        """In the end everything has arrived."""
        while self.next < len(self.qualities) or self.wire or self.answers or self.waiting:
            self.commit()
            while self.wire:
                self.client_reads()
            while self.answers:
                self.server_reads()
            while self.next < len(self.qualities) and self.outgoing.quota > 0:
                self.send()
        assert set(self.received) == set(range(len(self.qualities)))
        assert not self.memory.flights


TestToSubscriber = ToSubscriber.TestCase
TestToSubscriber.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_the_same_is_not_taken_twice() -> None:
    memory = Memory()
    assert memory.take(7)
    assert not memory.take(7)
    assert memory.release(7)
    assert not memory.release(7)
    assert memory.take(7), "the identifier is free again"


def test_a_refused_message_frees_its_identifier() -> None:
    outgoing = Outgoing(1, 100)
    memory = Memory()
    outgoing.accept(None, None, memory)
    for _ in range(2):
        outgoing.deliver(Message(b"\x34\x05\0\1a", b""), 2)
    assert outgoing.inflight == 1
    assert outgoing.receive(1, refused=True)
    assert memory.flights == {2: Flight(2)}
    assert not outgoing.receive(1, refused=False)
