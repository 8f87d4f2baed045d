"""The fast scan may be quicker than the plain codec, and never of another opinion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import Numbers, packets, publishes

from millstream.errors import NotAuthorizedError
from millstream.mqtt import packet as p
from millstream.mqtt.allowance import Allowance
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode
from millstream.mqtt.packet import Version
from millstream.mqtt.permitted import PermittedTopics
from millstream.mqtt.properties import NOTHING
from millstream.mqtt.reason import ProtocolError, Reason
from millstream.mqtt.scan import Arrivals, scan, scan_acknowledgements
from millstream.rights import EVERYTHING, Right

LONG = "long" * 64
KNOWN = ("", "a", "site/a/press-1/telemetry", "b" * 200, LONG)

versions = st.sampled_from(Version)
Found = tuple[list[p.Packet], int, Reason | None]


def plain_publishes(version: Version) -> st.SearchStrategy[p.Packet]:
    return st.builds(
        lambda topic, payload, qos, packet_id, duplicate: p.Publish(
            topic=topic, payload=payload, qos=qos, packet_id=packet_id * qos, duplicate=bool(qos and duplicate)
        ),
        st.sampled_from(KNOWN[:-1]),
        st.binary(max_size=200),
        st.integers(0, 1),
        st.integers(1, 0xFFFF),
        st.booleans(),
    )


@st.composite
def streams(draw: Any) -> tuple[Version, bytes]:
    """Packets of a version one after another, mostly plain ones, perhaps with a wrong byte, perhaps cut off."""
    version = draw(versions)
    long = st.just(p.Publish(topic=LONG, payload=b"x"))
    some = st.one_of(plain_publishes(version), plain_publishes(version), publishes(version), packets(version), long)
    data = bytearray(b"".join(encode(each, version) for each in draw(st.lists(some, max_size=8))))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return version, bytes(data)


def with_codec(version: Version, data: bytes, position: int = 0) -> Found:
    """The packets up to the first incomplete or wrong one, where that begins, and what is wrong with it."""
    found: list[p.Packet] = []
    try:
        while (one := decode(data, position, version=version)) is not None:
            packet, position = one
            found.append(unmarked(packet))
    except ProtocolError as error:
        return found, position, error.reason
    return found, position, None


class Connection:
    """Where reads come from."""

    def __init__(self, version: Version = Version.V3_1_1) -> None:
        self.active = False
        self.allowance = Allowance(1_000, 1_000, now=0.0)
        self.credit = 1 << 62
        self.plain_header = int(version is Version.V5)
        self.permitted: PermittedTopics | None = None

    def acknowledge(self, answers: Sequence[bytes]) -> None:
        raise AssertionError("the scan only tells what is owed")

    def explain(self, acknowledgement: bytes, text: str) -> bytes:
        raise AssertionError("the scan knows of nothing to explain")


def columns() -> Arrivals:
    return Arrivals(Numbers(*KNOWN))


def scan_one(data: bytes, position: int, version: Version, limit: int, arrivals: Arrivals) -> int:
    """Scan one read; where it stops."""
    connection = Connection(version)
    stops = list(scan([(connection, connection, data, position)], limit, arrivals))
    assert connection.active
    return stops[0][1] if stops else len(data)


def packet_ids_of(arrivals: Arrivals) -> list[bytes]:
    """The packet identifiers in the PUBACKs that are owed."""
    owed = b"".join(arrivals.acknowledgements)
    assert owed[0::4] == b"\x40" * (len(owed) // 4) and owed[1::4] == b"\x02" * (len(owed) // 4)
    return [owed[at + 2 : at + 4] for at in range(0, len(owed), 4)]


def rows(arrivals: Arrivals) -> list[p.Packet]:
    """What the scan found, as packets (it does not tell which were marked as sent again)."""
    found: list[p.Packet] = []
    ids = iter(packet_ids_of(arrivals))
    assert len(arrivals.qualities) == len(arrivals.quality_starts) == len(set(arrivals.quality_starts))
    for row, (topic, payload) in enumerate(zip(arrivals.topics, arrivals.payloads, strict=True)):
        qos = arrivals.quality(row)
        packet_id = int.from_bytes(next(ids), "big") if qos else 0
        found.append(p.Publish(topic=KNOWN[topic], payload=payload, qos=qos, packet_id=packet_id))
    assert next(ids, None) is None
    return found


def unmarked(packet: p.Packet) -> p.Packet:
    if not isinstance(packet, p.Publish):
        return packet
    return p.Publish(
        topic=packet.topic,
        payload=packet.payload,
        qos=packet.qos,
        packet_id=packet.packet_id,
        retain=packet.retain,
        properties=packet.properties,
    )


def with_scan(version: Version, data: bytes) -> Found:
    found: list[p.Packet] = []
    position = 0
    while True:
        arrivals = columns()
        position = scan_one(data, position, version, 1 << 20, arrivals)
        found += rows(arrivals)
        try:
            one = decode(data, position, version=version)
        except ProtocolError as error:
            return found, position, error.reason
        if one is None:
            return found, position, None
        found.append(unmarked(one[0]))
        position = one[1]


@given(streams())
def test_scan_and_codec_find_the_same(stream: tuple[Version, bytes]) -> None:
    version, data = stream
    assert with_scan(version, data) == with_codec(version, data)


@given(versions.flatmap(lambda version: st.tuples(st.just(version), st.lists(plain_publishes(version), max_size=20))))
def test_plain_packets_never_need_the_codec(stream: tuple[Version, list[p.Packet]]) -> None:
    version, sent = stream
    data = b"".join(encode(each, version) for each in sent)
    arrivals = columns()
    assert scan_one(data, 0, version, 1 << 20, arrivals) == len(data)
    assert rows(arrivals) == [unmarked(each) for each in sent]


def scanned(data: bytes, *, limit: int = 1 << 20, version: Version = Version.V3_1_1) -> tuple[int, Arrivals]:
    arrivals = columns()
    return scan_one(data, 0, version, limit, arrivals), arrivals


def test_messages_of_one_quality_are_told_where_they_begin() -> None:
    data = b"".join(encode(p.Publish(topic="a", payload=b"x", qos=1, packet_id=n)) for n in (1, 2, 3))
    data += encode(p.Publish(topic="a", payload=b"y"))
    _, arrivals = scanned(data)
    assert (arrivals.topics, arrivals.qualities, arrivals.quality_starts) == ([1, 1, 1, 1], [1, 0], [0, 3])


ODD = {
    "unknown topic": encode(p.Publish(topic="c")),
    "retained": encode(p.Publish(topic="a", retain=True)),
    "QoS 2": encode(p.Publish(topic="a", qos=2, packet_id=1)),
    "topic of 256 bytes and more": encode(p.Publish(topic=LONG)),
    "longer than the limit": encode(p.Publish(topic="a", payload=bytes(500))),
    "three bytes of length": encode(p.Publish(topic="a", payload=bytes(16_384))),
    "PINGREQ": encode(p.Pingreq()),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_is_not_plain_is_left_to_the_codec(odd: bytes) -> None:
    plain = encode(p.Publish(topic="a", payload=b"1"))
    position, arrivals = scanned(plain + odd, limit=400)
    assert position == len(plain)
    assert arrivals.payloads == [b"1"]
    assert arrivals.quality_starts == [0]


def test_packet_identifier_zero_is_left_to_the_codec() -> None:
    good = encode(p.Publish(topic="a", qos=1, packet_id=1))
    bad = good[:-2] + b"\0\0"
    position, arrivals = scanned(encode(p.Publish(topic="a")) + bad)
    assert (position, len(arrivals), arrivals.qualities, arrivals.quality_starts) == (len(good) - 2, 1, [0], [0])
    position, arrivals = scanned(bad)
    assert (position, len(arrivals), arrivals.quality_starts) == (0, 0, [])


def test_a_packet_that_is_larger_than_a_small_limit_is_left_to_the_codec() -> None:
    assert scanned(encode(p.Publish(topic="a", payload=bytes(50))), limit=40)[0] == 0


def test_later_scans_add_to_the_same_columns() -> None:
    arrivals = columns()
    one = encode(p.Publish(topic="a", payload=b"1"))
    for _ in range(2):
        scan_one(one, 0, Version.V3_1_1, 1 << 20, arrivals)
    arrivals.add("new", 1, b"2", NOTHING)
    assert (arrivals.topics, arrivals.payloads) == ([1, 1, 5], [b"1", b"1", b"2"])
    assert (arrivals.qualities, arrivals.quality_starts) == ([0, 1], [0, 2])
    assert arrivals.properties == {2: NOTHING}


def test_every_read_is_told_apart_by_who_is_owed_what() -> None:
    first, second, silent = (Connection() for _ in range(3))
    one, two = (encode(p.Publish(topic="a", payload=b"1", qos=1, packet_id=n)) for n in (1, 2))
    unknown = encode(p.Publish(topic="c"))
    reads = [(first, first, one + two, 0), (second, second, unknown, 0), (silent, silent, b"\xc0\0", 0)]
    reads += [(second, second, two, 0), (first, first, b"??" + one, 2)]
    arrivals = columns()
    stops = [(read[0], position) for read, position in scan(reads, 1 << 20, arrivals)]
    assert stops == [(second, 0), (silent, 0)]
    assert arrivals.starts == [0, 2, 3]
    assert [arrivals.publisher(row) for row in range(4)] == [first, first, second, first]
    assert arrivals.acknowledgements == [b"\x40\2\0\1\x40\2\0\2", b"\x40\2\0\2", b"\x40\2\0\1"]


def test_what_is_done_at_a_stop_comes_before_the_next_read() -> None:
    connection = Connection()
    plain, odd = encode(p.Publish(topic="a", payload=b"1")), encode(p.Publish(topic="a", payload=b"odd", retain=True))
    arrivals = columns()
    for number, _ in enumerate(scan([(connection, connection, each, 0) for each in (odd, plain, odd)], 400, arrivals)):
        arrivals.add("a", 1, f"odd {number}".encode(), None, connection, b"answer")
    assert arrivals.payloads == [b"odd 0", b"1", b"odd 1"]
    assert (arrivals.qualities, arrivals.quality_starts) == ([1, 0, 1], [0, 1, 2])
    assert arrivals.acknowledgements == [b"answer", b"", b"answer"]


def test_from_a_connection_that_is_not_ready_nothing_is_taken() -> None:
    connection = Connection()
    connection.plain_header = -1
    arrivals = columns()
    plain = encode(p.Publish(topic="a"))
    assert [position for _, position in scan([(connection, connection, plain, 0)], 400, arrivals)] == [0]
    assert len(arrivals) == 0


class Only:
    """Rights to one topic."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def check(self, right: Right, name: str = "") -> None:
        if name != self.topic:
            raise NotAuthorizedError("no")


def test_topics_are_taken_once_they_are_permitted_to_their_client() -> None:
    bound, free = Connection(), Connection()
    bound.permitted = PermittedTopics(Only("a"))
    arrivals = columns()
    both = encode(p.Publish(topic="a", payload=b"1")) + encode(p.Publish(topic=KNOWN[2], payload=b"2"))

    def stops() -> list[int]:
        reads = [(bound, bound, both, 0), (free, free, both, 0)]
        return [position for _, position in scan(reads, 400, arrivals)]

    assert stops() == [0]
    bound.permitted.check("a", arrivals.numbering)
    with pytest.raises(NotAuthorizedError):
        bound.permitted.check(KNOWN[2], arrivals.numbering)
    assert stops() == [6]
    assert arrivals.payloads == [b"1", b"2", b"1", b"1", b"2"]
    arrivals = columns()  # numbers of an earlier table mean nothing in a new one
    assert stops() == [0]


def test_the_topics_that_are_kept_for_a_client_are_bounded() -> None:
    permitted, numbers = PermittedTopics(EVERYTHING), Numbers()
    for number in range(2_500):
        permitted.check(str(number), numbers)
        assert len(permitted.known(numbers)) <= 1_000


def test_an_acknowledgement_without_a_message_stands_in_its_turn() -> None:
    first, second = Connection(), Connection()
    arrivals = columns()
    one = encode(p.Publish(topic="a", payload=b"1", qos=1, packet_id=1))
    for connection in (first, second):
        list(scan([(connection, connection, one, 0)], 400, arrivals))
        arrivals.owe(connection, b"refused")
    assert arrivals.acknowledgements == [b"\x40\2\0\1", b"refused"] * 2
    assert [arrivals.publisher(row) for row in range(2)] == [first, second]


@given(st.lists(st.integers(1, 0xFFFF), max_size=5), st.binary(max_size=6))
def test_acknowledgements_are_scanned_up_to_the_first_other_thing(ids: list[int], rest: bytes) -> None:
    data = b"".join(encode(p.Puback(packet_id=each)) for each in ids)
    found: list[int] = []
    position = scan_acknowledgements(data + rest, 0, found)
    acks, _, _ = with_codec(Version.V3_1_1, (data + rest)[:position])
    assert found[: len(ids)] == ids
    assert acks == [p.Puback(packet_id=each) for each in found]
