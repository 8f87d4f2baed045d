"""Topic aliases: what a client says by number arrives by name, and what it is sent by number it knows the name of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.mqtt.test_session import Client
from tests.support.packets import publishes

from millstream.mqtt import packet as p
from millstream.mqtt.aliases import IncomingAliases, OutgoingAliases
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode_message
from millstream.mqtt.packet import Version
from millstream.mqtt.properties import NOTHING, Properties
from millstream.mqtt.wire import text


def alias(number: int, **more: str) -> Properties:
    return Properties(topic_alias=number, **more)  # type: ignore[arg-type]


def test_a_client_gives_a_topic_a_number_and_another_one_later() -> None:
    client = Client()
    client.connect()
    client.send(
        p.Publish(topic="first", payload=b"1", properties=alias(3)),
        p.Publish(topic="", payload=b"2", properties=alias(3, content_type="x")),
        p.Publish(topic="second", payload=b"3", properties=alias(3)),
        p.Publish(topic="", payload=b"4", properties=alias(3)),
    )
    names = [client.numbers.names[number] for number in client.arrivals.topics]
    assert names == ["first", "first", "second", "second"]
    assert client.arrivals.properties == {1: Properties(content_type="x")}, "subscribers do not see the number"


@given(
    st.lists(st.tuples(st.sampled_from(["a", "long/topic", "another/long/topic"]), publishes(Version.V5)), max_size=20)
)
def test_what_is_sent_by_number_is_the_same_message(messages: list[tuple[str, p.Publish]]) -> None:
    giving, understanding = OutgoingAliases(2), IncomingAliases(2)
    for topic, its in messages:
        properties = Properties(
            **{
                name: getattr(its.properties, name)
                for name in its.properties.__struct_fields__
                if name != "topic_alias"
            }
        )
        plain = encode_message(text(topic), its.qos, its.payload, Version.V5, properties)
        sent = giving.apply(plain)
        found = decode(sent.head + (b"\0\7" if its.qos else b"") + sent.tail, version=Version.V5)
        assert found is not None
        packet = found[0]
        assert isinstance(packet, p.Publish)
        number = packet.properties.topic_alias
        name = understanding.resolve(number, packet.topic) if number is not None else packet.topic
        assert (name, packet.payload, packet.qos) == (topic, its.payload, its.qos)
        assert packet.properties.content_type == properties.content_type


def test_a_topic_goes_out_once() -> None:
    giving = OutgoingAliases(1)
    plain = encode_message(text("site/a/press-1/telemetry"), 1, b"21.5", Version.V5, NOTHING)
    first, second = giving.apply(plain), giving.apply(plain)
    assert len(first.head + first.tail) == len(plain.head + plain.tail) + 3
    assert len(second.head + second.tail) == len(plain.head + plain.tail) + 3 - len("site/a/press-1/telemetry")
    other = encode_message(text("site/b/press-1/telemetry"), 1, b"21.5", Version.V5, NOTHING)
    assert giving.apply(other) is other, "there is no number left"
