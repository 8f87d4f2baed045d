"""Packets to bytes and back, and what becomes of bytes that are no packet."""

from __future__ import annotations

from collections.abc import Callable, Set

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import SAMPLES, packets, properties

from millstream.mqtt import packet as p
from millstream.mqtt import reason
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode, encode_message
from millstream.mqtt.packet import Version
from millstream.mqtt.properties import Place, Properties
from millstream.mqtt.reason import ProtocolError, Reason
from millstream.mqtt.wire import text

IDS = [f"{type(packet).__name__}-{version.name}" for packet, version in SAMPLES]
every_sample = pytest.mark.parametrize(("packet", "version"), SAMPLES, ids=IDS)
versions = st.sampled_from(Version)


def decode_or_refuse(data: bytes, version: Version) -> p.Packet | Reason | None:
    """The invariant: garbage is a packet, "need more" or a ProtocolError. Anything else escapes and fails the test.
    What is a packet can be written, and is the same packet then."""
    try:
        found = decode(data, version=version, limit=1 << 20)
    except ProtocolError as error:
        assert str(error)
        return error.reason
    if found is None:
        return None
    packet, _ = found
    again = encode(packet, version)
    assert decode(again, version=version) == (packet, len(again))
    return packet


@given(versions.flatmap(lambda version: st.tuples(packets(version), st.just(version))), st.binary(max_size=5))
def test_a_packet_comes_back_as_it_was(sample: tuple[p.Packet, Version], more: bytes) -> None:
    packet, version = sample
    data = encode(packet, version)
    assert decode(b"??" + data + more, 2, version=version) == (packet, 2 + len(data))


@every_sample
def test_every_truncation_needs_more(packet: p.Packet, version: Version) -> None:
    data = encode(packet, version)
    for length in range(len(data)):
        assert decode(data[:length], version=version) is None


@every_sample
def test_every_change_of_a_byte_is_a_packet_or_refused(packet: p.Packet, version: Version) -> None:
    data = bytearray(encode(packet, version))
    for place in range(len(data)):
        original = data[place]
        for value in range(256):
            data[place] = value
            decode_or_refuse(bytes(data), version)
        data[place] = original


@every_sample
def test_a_body_cut_short_is_a_packet_or_refused(packet: p.Packet, version: Version) -> None:
    data = encode(packet, version)
    for length in range(len(data) - 2):
        decode_or_refuse(data[:1] + bytes((length,)) + data[2 : 2 + length], version)


@given(st.binary(max_size=60), versions)
def test_garbage_is_a_packet_or_refused(data: bytes, version: Version) -> None:
    decode_or_refuse(data, version)


@given(st.integers(1, 15), st.binary(max_size=60), versions)
def test_a_garbage_body_is_a_packet_or_refused(kind: int, body: bytes, version: Version) -> None:
    flags = 2 if kind in (6, 8, 10) else 0
    decode_or_refuse(bytes((kind << 4 | flags, len(body))) + body, version)


REFUSED = {
    "reserved type": (b"\x00\x00", Reason.MALFORMED_PACKET),
    "remaining length of five bytes": (b"\x30\xff\xff\xff\xff\x01", Reason.MALFORMED_PACKET),
    "remaining length with a needless byte": (b"\x30\x85\x00\x00\x01aXX", Reason.MALFORMED_PACKET),
    "QoS 3": (b"\x36\x05\x00\x01a\x00\x01", Reason.MALFORMED_PACKET),
    "duplicate of QoS 0": (b"\x38\x03\x00\x01a", Reason.MALFORMED_PACKET),
    "packet identifier 0": (b"\x32\x05\x00\x01a\x00\x00", Reason.PROTOCOL_ERROR),
    "packet identifier 0 of a SUBSCRIBE": (b"\x82\x06\x00\x00\x00\x01a\x00", Reason.PROTOCOL_ERROR),
    "packet identifier 0 of an UNSUBSCRIBE": (b"\xa2\x05\x00\x00\x00\x01a", Reason.PROTOCOL_ERROR),
    "topic beyond the packet": (b"\x30\x03\x00\x05a", Reason.MALFORMED_PACKET),
    "topic that is no UTF-8": (b"\x30\x04\x00\x02\xff\xfe", Reason.MALFORMED_PACKET),
    "topic with a surrogate": (b"\x30\x05\x00\x03\xed\xa0\x80", Reason.MALFORMED_PACKET),
    "topic with a null": (b"\x30\x04\x00\x02a\x00", Reason.MALFORMED_PACKET),
    "SUBSCRIBE of nothing": (b"\x82\x02\x00\x01", Reason.PROTOCOL_ERROR),
    "SUBSCRIBE with QoS 3": (b"\x82\x06\x00\x01\x00\x01a\x03", Reason.MALFORMED_PACKET),
    "SUBSCRIBE with options of MQTT 5": (b"\x82\x06\x00\x01\x00\x01a\x04", Reason.MALFORMED_PACKET),
    "UNSUBSCRIBE of nothing": (b"\xa2\x02\x00\x01", Reason.PROTOCOL_ERROR),
    "bytes behind a PINGREQ's end": (b"\xc0\x01x", Reason.MALFORMED_PACKET),
    "MQTT 3.1": (b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00", Reason.UNSUPPORTED_PROTOCOL_VERSION),
    "another protocol's name": (b"\x10\x0c\x00\x04MQTX\x04\x02\x00\x00\x00\x00", Reason.UNSUPPORTED_PROTOCOL_VERSION),
    "MQTT 6": (b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00", Reason.UNSUPPORTED_PROTOCOL_VERSION),
    "reserved connect flag": (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00", Reason.MALFORMED_PACKET),
    "will QoS without a will": (b"\x10\x0c\x00\x04MQTT\x04\x0a\x00\x00\x00\x00", Reason.MALFORMED_PACKET),
    "will RETAIN without a will": (b"\x10\x0c\x00\x04MQTT\x04\x22\x00\x00\x00\x00", Reason.MALFORMED_PACKET),
    "no client identifier": (b"\x10\x0a\x00\x04MQTT\x04\x02\x00\x00", Reason.MALFORMED_PACKET),
    "no will though there is its flag": (b"\x10\x0c\x00\x04MQTT\x04\x06\x00\x00\x00\x00", Reason.MALFORMED_PACKET),
    "no payload of a will": (b"\x10\x0f\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x01a", Reason.MALFORMED_PACKET),
    "no user name though there is its flag": (b"\x10\x0c\x00\x04MQTT\x04\x82\x00\x00\x00\x00", Reason.MALFORMED_PACKET),
    "no password though there is its flag": (
        b"\x10\x0f\x00\x04MQTT\x04\xc2\x00\x00\x00\x00\x00\x01x",
        Reason.MALFORMED_PACKET,
    ),
    "will of QoS 3": (b"\x10\x12\x00\x04MQTT\x04\x1e\x00\x00\x00\x00\x00\x01a\x00\x01b", Reason.MALFORMED_PACKET),
    "user name without its flag": (b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00\x01x", Reason.MALFORMED_PACKET),
    "password without its flag": (
        b"\x10\x12\x00\x04MQTT\x04\x82\x00\x00\x00\x00\x00\x01x\x00\x01y",
        Reason.MALFORMED_PACKET,
    ),
    "client identifier that is no UTF-8": (
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff",
        Reason.MALFORMED_PACKET,
    ),
    "will topic that is no UTF-8": (
        b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x01\xff\x00\x01b",
        Reason.MALFORMED_PACKET,
    ),
    "user name that is no UTF-8": (
        b"\x10\x0f\x00\x04MQTT\x04\x82\x00\x00\x00\x00\x00\x01\xff",
        Reason.MALFORMED_PACKET,
    ),
    "filter that is no UTF-8": (b"\x82\x06\x00\x01\x00\x01\xff\x00", Reason.MALFORMED_PACKET),
    "filter to end that is no UTF-8": (b"\xa2\x05\x00\x01\x00\x01\xff", Reason.MALFORMED_PACKET),
    "password without user name": (b"\x10\x0f\x00\x04MQTT\x04\x42\x00\x00\x00\x00\x00\x01x", Reason.MALFORMED_PACKET),
}


@pytest.mark.parametrize(("data", "refused"), REFUSED.values(), ids=REFUSED)
def test_what_the_specification_forbids_is_refused_with_its_reason(data: bytes, refused: Reason) -> None:
    assert decode_or_refuse(data, Version.V3_1_1) is refused


def _publish_with(raw: bytes) -> bytes:
    body = b"\x00\x01a" + bytes((len(raw),)) + raw
    return b"\x30" + bytes((len(body),)) + body


REFUSED_PROPERTIES = {
    "unknown": (b"\x7f\x00", Reason.MALFORMED_PACKET),
    "of another packet": (b"\x11\x00\x00\x00\x01", Reason.MALFORMED_PACKET),
    "twice": (b"\x01\x00\x01\x00", Reason.PROTOCOL_ERROR),
    "out of its range": (b"\x01\x02", Reason.PROTOCOL_ERROR),
    "topic alias 0": (b"\x23\x00\x00", Reason.TOPIC_ALIAS_INVALID),
    "subscription identifier 0": (b"\x0b\x00", Reason.PROTOCOL_ERROR),
    "cut short": (b"\x02\x00", Reason.MALFORMED_PACKET),
    "content type that is no UTF-8": (b"\x03\x00\x01\xff", Reason.MALFORMED_PACKET),
    "response topic that is no UTF-8": (b"\x08\x00\x01\xff", Reason.MALFORMED_PACKET),
    "name of a user property that is no UTF-8": (b"\x26\x00\x01\xff\x00\x01a", Reason.MALFORMED_PACKET),
    "value of a user property that is no UTF-8": (b"\x26\x00\x01a\x00\x01\xff", Reason.MALFORMED_PACKET),
    "length with a needless byte": (b"\x0b\x85\x00", Reason.MALFORMED_PACKET),
    "longer than their length": (b"\x03\x00\x09a", Reason.MALFORMED_PACKET),
}


@pytest.mark.parametrize(("raw", "refused"), REFUSED_PROPERTIES.values(), ids=REFUSED_PROPERTIES)
def test_properties_that_may_not_be_are_refused(raw: bytes, refused: Reason) -> None:
    assert decode_or_refuse(_publish_with(raw), Version.V5) is refused


@every_sample
def test_flags_in_the_first_byte_are_those_of_the_table(packet: p.Packet, version: Version) -> None:
    data = encode(packet, version)
    right = {p.Pubrel: 2, p.Subscribe: 2, p.Unsubscribe: 2}.get(type(packet), 0)
    for flags in range(16):
        if not isinstance(packet, p.Publish) and flags != right:
            wrong = bytes((data[0] & 0xF0 | flags,)) + data[1:]
            assert decode_or_refuse(wrong, version) is Reason.MALFORMED_PACKET, flags


BY_REASON: dict[str, tuple[Callable[[int], bytes], Set[Reason]]] = {
    "CONNACK": (lambda code: bytes((0x20, 3, 0, code, 0)), reason.OF_CONNACK),
    "PUBACK": (lambda code: bytes((0x40, 3, 0, 1, code)), reason.OF_PUBACK),
    "PUBREC": (lambda code: bytes((0x50, 3, 0, 1, code)), reason.OF_PUBREC),
    "PUBREL": (lambda code: bytes((0x62, 3, 0, 1, code)), reason.OF_PUBREL),
    "PUBCOMP": (lambda code: bytes((0x70, 3, 0, 1, code)), reason.OF_PUBCOMP),
    "SUBACK": (lambda code: bytes((0x90, 4, 0, 1, 0, code)), reason.OF_SUBACK),
    "UNSUBACK": (lambda code: bytes((0xB0, 4, 0, 1, 0, code)), reason.OF_UNSUBACK),
    "DISCONNECT": (lambda code: bytes((0xE0, 1, code)), reason.OF_DISCONNECT),
    "AUTH": (lambda code: bytes((0xF0, 1, code)), reason.OF_AUTH),
}


@pytest.mark.parametrize(("make", "allowed"), BY_REASON.values(), ids=BY_REASON)
def test_each_kind_of_packet_has_its_own_reasons(make: Callable[[int], bytes], allowed: Set[Reason]) -> None:
    """So whatever a test reads from the server has a reason that its kind may have."""
    for code in range(256):
        found = decode_or_refuse(make(code), Version.V5)
        if code in allowed:
            assert not isinstance(found, Reason), hex(code)
        else:
            assert found in (Reason.MALFORMED_PACKET, Reason.PROTOCOL_ERROR), hex(code)


OPTIONS: dict[int, Reason | None] = {
    0x03: Reason.MALFORMED_PACKET,  # QoS 3
    0x40: Reason.MALFORMED_PACKET,
    0x80: Reason.MALFORMED_PACKET,
    0x30: Reason.PROTOCOL_ERROR,  # Retain Handling 3
    0x2E: None,
}


@pytest.mark.parametrize(("options", "refused"), OPTIONS.items(), ids=map(hex, OPTIONS))
def test_options_of_a_subscription_are_those_that_there_are(options: int, refused: Reason | None) -> None:
    found = decode_or_refuse(bytes((0x82, 7, 0, 1, 0, 0, 1, 0x61, options)), Version.V5)
    assert found is refused if refused is not None else isinstance(found, p.Subscribe)


CONNECT_PROPERTIES = {
    "receive maximum 0": (b"\x21\x00\x00", Reason.PROTOCOL_ERROR),
    "maximum packet size 0": (b"\x27\x00\x00\x00\x00", Reason.PROTOCOL_ERROR),
    "problem information 2": (b"\x17\x02", Reason.PROTOCOL_ERROR),
    "response information 2": (b"\x19\x02", Reason.PROTOCOL_ERROR),
    "authentication data without its method": (b"\x16\x00\x01x", Reason.PROTOCOL_ERROR),
    "session expiry twice": (b"\x11\x00\x00\x00\x01" * 2, Reason.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("raw", "refused"), CONNECT_PROPERTIES.values(), ids=CONNECT_PROPERTIES)
def test_what_a_client_may_not_ask_for_is_refused(raw: bytes, refused: Reason) -> None:
    body = b"\x00\x04MQTT\x05\x02\x00\x00" + bytes((len(raw),)) + raw + b"\x00\x00"
    assert decode_or_refuse(b"\x10" + bytes((len(body),)) + body, Version.V5) is refused


def test_a_byte_order_mark_in_a_text_stays() -> None:
    data = b"\x30\x06\x00\x04\xef\xbb\xbfa"
    packet = decode_or_refuse(data, Version.V3_1_1)
    assert packet == p.Publish(topic="\ufeffa")
    assert encode(p.Publish(topic="\ufeffa")) == data


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (p.Connack(), b"\x20\x03\x00\x00\x00"),
        (p.Connack(session_present=True), b"\x20\x03\x01\x00\x00"),
        (p.Publish(topic="a"), b"\x30\x04\x00\x01a\x00"),
        (p.Suback(packet_id=1, reasons=(Reason.SUCCESS,)), b"\x90\x04\x00\x01\x00\x00"),
        (p.Unsuback(packet_id=1, reasons=(Reason.SUCCESS,)), b"\xb0\x04\x00\x01\x00\x00"),
    ],
)
def test_no_properties_are_a_length_of_zero(packet: p.Packet, data: bytes) -> None:
    assert encode(packet, Version.V5) == data


def test_properties_longer_than_the_packet_are_refused() -> None:
    assert decode_or_refuse(b"\x30\x05\x00\x01a\x09\x01", Version.V5) is Reason.MALFORMED_PACKET


def test_too_large_a_packet_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(ProtocolError, match="100 are allowed") as refused:
        decode(b"\x30\x80\x01", limit=100)
    assert refused.value.reason is Reason.PACKET_TOO_LARGE


def test_a_packet_of_very_many_entries_is_refused() -> None:
    many = p.Publish(topic="a", properties=Properties(user_properties=(("", ""),) * 1025))
    assert decode_or_refuse(encode(many, Version.V5), Version.V5) is Reason.QUOTA_EXCEEDED
    filters = p.Unsubscribe(packet_id=1, filters=("a",) * 1025)
    assert decode_or_refuse(encode(filters), Version.V3_1_1) is Reason.QUOTA_EXCEEDED


def test_more_than_one_subscription_identifier_is_refused_in_a_subscribe() -> None:
    packet = p.Subscribe(
        packet_id=1, subscriptions=(p.Subscription("a"),), properties=Properties(subscription_identifiers=(1, 2))
    )
    assert decode_or_refuse(encode(packet, Version.V5), Version.V5) is Reason.PROTOCOL_ERROR


def test_reasons_that_an_older_client_does_not_know_become_the_nearest() -> None:
    assert encode(p.Connack(reason=Reason.SERVER_BUSY)) == b"\x20\x02\x00\x03"
    assert encode(p.Suback(packet_id=1, reasons=(Reason.QUOTA_EXCEEDED,))) == b"\x90\x03\x00\x01\x80"


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 2_097_152])
def test_lengths_of_every_size(size: int) -> None:
    packet = p.Publish(topic="a", payload=bytes(size))
    data = encode(packet)
    assert decode(data) == (packet, len(data))


def test_a_field_too_long_for_mqtt_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="65,535"):
        encode(p.Publish(topic="a" * 65_536))


@given(versions, st.sampled_from((0, 1)), st.binary(max_size=200), st.data())
def test_a_message_for_many_is_the_same_packet(version: Version, qos: int, payload: bytes, data: st.DataObject) -> None:
    its = data.draw(properties(Place.PUBLISH, version))
    packet = p.Publish(topic="a/ü", payload=payload, qos=qos, packet_id=qos and 258, properties=its)
    head, tail = encode_message(text("a/ü"), qos, payload, version, its)
    assert head + (b"\x01\x02" if qos else b"") + tail == encode(packet, version)
