"""What the generator of pub/sub sends, and that it finds out when a server answers wrongly."""

from __future__ import annotations

import socket

import pytest
from benchmarks.load import LoadError
from benchmarks.pubsub_load import PAYLOAD, Group, Publisher, Subscriber, packet

from millstream.mqtt import decode
from millstream.mqtt import packet as p


@pytest.mark.parametrize("qos", [0, 1])
def test_a_packet_is_a_publish(qos: int) -> None:
    found = decode(packet("a/b", 7, qos))
    assert found is not None
    assert found[0] == p.Publish(topic="a/b", payload=PAYLOAD, qos=qos, packet_id=7 if qos else 0)


def test_publishers_take_turns_and_begin_anew() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    group = Group(1, [Publisher(ours, [packet("a", number, 1) for number in (1, 2, 3)]) for ours, _ in pairs])
    for count in (1, 4, 2):
        group.send(count)
    sent = []
    for ours, server in pairs:
        data, position = server.recv(1 << 16), 0
        while found := decode(data, position):
            publish, position = found
            assert isinstance(publish, p.Publish)
            sent.append(publish.packet_id)
        ours.close()
        server.close()
    assert sent == [1, 2, 3, 1, 1, 2, 3]


def test_messages_are_counted_and_acknowledged_however_they_arrive() -> None:
    ours, server = socket.socketpair()
    with ours, server:
        data = packet("a/b", 1, 1) + packet("a/b", 2, 1)
        subscriber = Subscriber(ours, Group(1), len(data) // 2, 3, 1)
        assert [subscriber.take(bytes((byte,))) for byte in data].count(1) == 2
        assert server.recv(100) == bytes((0x40, 2, 0, 1, 0x40, 2, 0, 2))
        with pytest.raises(LoadError, match="expected a PUBLISH"):
            subscriber.take(b"\x30")
