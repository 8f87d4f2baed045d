"""What the generator sends, and that it finds out when a server answers wrongly."""

from __future__ import annotations

import json
import socket

import pytest
from benchmarks.load import PAYLOAD_BYTES, LoadError, Publisher, packets_of

from millstream.topic import filter_matches

IN_FLIGHT = 20


def test_packets_are_distinct_publishes_of_one_length() -> None:
    packets = packets_of(connection=3, devices=10, in_flight=IN_FLIGHT)
    assert len(packets) >= 2 * IN_FLIGHT
    assert len({len(packet) for packet in packets}) == 1
    identifiers = set()
    devices = set()
    for packet in packets:
        assert packet[0] == 0x32 and packet[1] == len(packet) - 2
        stop = 4 + int.from_bytes(packet[2:4])
        topic = packet[4:stop].decode()
        assert filter_matches("site/+/+/telemetry", topic)
        devices.add(topic.split("/")[2])
        identifiers.add(packet[stop : stop + 2])
        assert len(packet[stop + 2 :]) == PAYLOAD_BYTES
        assert set(json.loads(packet[stop + 2 :])) == {"ts", "celsius", "speed"}
    assert len(identifiers) == len(packets)
    assert len(devices) == 10


@pytest.fixture
def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_acknowledgements_are_counted_by_bytes_and_checked(pair: tuple[socket.socket, socket.socket]) -> None:
    with pair[0], pair[1] as server:
        packets = packets_of(0, 1, IN_FLIGHT)
        publisher = Publisher(pair[0], packets, IN_FLIGHT)
        publisher.publish(2)
        assert server.recv(1 << 16) == packets[0] + packets[1]
        assert publisher.take(b"\x40\x02\x00\x01\x40") == 1
        assert publisher.take(b"\x02\x00\x02") == 1
        with pytest.raises(LoadError, match="expected PUBACKs 40020003"):
            publisher.take(b"\x40\x02\x00\x04")


def test_the_cycle_of_packets_and_acknowledgements_goes_round(pair: tuple[socket.socket, socket.socket]) -> None:
    with pair[0], pair[1] as server:
        packets = packets_of(0, 1, IN_FLIGHT)
        publisher = Publisher(pair[0], packets, IN_FLIGHT)
        sent, acknowledged = b"", 0
        for _ in range(len(packets)):
            publisher.publish(7)
            arrived = server.recv(1 << 16)
            sent += arrived
            size = len(packets[0])
            ids = [arrived[start + size - PAYLOAD_BYTES - 2 :][:2] for start in range(0, len(arrived), size)]
            acknowledged += publisher.take(b"".join(b"\x40\x02" + packet_id for packet_id in ids))
        assert acknowledged == 7 * len(packets)
        assert sent == b"".join(packets) * 7
