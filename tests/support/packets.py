"""MQTT packets for tests: Hypothesis strategies that make any valid packet, and one sample of every kind."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from hypothesis import strategies as st

from millstream.mqtt import packet as p
from millstream.mqtt import reason
from millstream.mqtt.decode import CONNACK_3_1_1, SUBACK_3_1_1
from millstream.mqtt.numbering import topic_key
from millstream.mqtt.packet import Version
from millstream.mqtt.properties import NOTHING, TABLE, Place, Properties
from millstream.mqtt.reason import Reason

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
blobs = st.binary(max_size=20)
packet_ids = st.integers(1, 0xFFFF)
qualities = st.integers(0, 2)


def reasons(allowed: Set[Reason]) -> st.SearchStrategy[Reason]:
    return st.sampled_from(sorted(allowed))


_BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "flag": st.integers(0, 1),
    "two": st.integers(0, 0xFFFF),
    "four": st.integers(0, 0xFFFF_FFFF),
    "two_positive": st.integers(1, 0xFFFF),
    "four_positive": st.integers(1, 0xFFFF_FFFF),
    "text": words,
    "binary": blobs,
    "alias": packet_ids,
    "pair": st.lists(st.tuples(words, words), max_size=3).map(tuple),
    "identifier": st.lists(st.integers(1, 268_435_455), max_size=1).map(tuple),
}


def properties(place: Place, version: Version) -> st.SearchStrategy[Properties]:
    """Any properties that may stand there."""
    if version != Version.V5:
        return st.just(NOTHING)
    allowed = {each.name: _BY_KIND[each.kind.name] for each in TABLE if place in each.places}
    if place == Place.CONNECT:
        allowed.pop("authentication_data")  # needs a method beside it
    return st.fixed_dictionaries({}, optional=allowed).map(lambda given: Properties(**given))


def wills(version: Version) -> st.SearchStrategy[p.Will]:
    return st.builds(
        p.Will,
        topic=words,
        payload=blobs,
        qos=qualities,
        retain=st.booleans(),
        properties=properties(Place.WILL, version),
    )


def connects(version: Version) -> st.SearchStrategy[p.Connect]:
    return st.builds(
        p.Connect,
        version=st.just(version),
        client_id=words,
        clean_start=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        user_name=words,
        password=st.none() | blobs,
        will=st.none() | wills(version),
        properties=properties(Place.CONNECT, version),
    )


def publishes(version: Version) -> st.SearchStrategy[p.Publish]:
    def build(qos: int) -> st.SearchStrategy[p.Publish]:
        return st.builds(
            p.Publish,
            topic=words,
            payload=st.binary(max_size=300),
            qos=st.just(qos),
            packet_id=packet_ids if qos else st.just(0),
            retain=st.booleans(),
            duplicate=st.booleans() if qos else st.just(False),
            properties=st.just(NOTHING) | properties(Place.PUBLISH, version),
        )

    return qualities.flatmap(build)


def _subscriptions(version: Version) -> st.SearchStrategy[p.Subscription]:
    if version != Version.V5:
        return st.builds(p.Subscription, words, qualities)
    return st.builds(p.Subscription, words, qualities, st.booleans(), st.booleans(), st.integers(0, 2))


def _some(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=1, max_size=4).map(tuple)


def packets(version: Version) -> st.SearchStrategy[p.Packet]:
    """Any valid packet of a version, in either direction."""
    v5 = version == Version.V5
    answers = [
        st.builds(
            kind,
            packet_id=packet_ids,
            reason=reasons(allowed) if v5 else st.just(Reason.SUCCESS),
            properties=properties(place, version),
        )
        for kind, place, allowed in [
            (p.Puback, Place.PUBACK, reason.OF_PUBACK),
            (p.Pubrec, Place.PUBREC, reason.OF_PUBREC),
            (p.Pubrel, Place.PUBREL, reason.OF_PUBREL),
            (p.Pubcomp, Place.PUBCOMP, reason.OF_PUBCOMP),
        ]
    ]
    common = [
        connects(version),
        publishes(version),
        *answers,
        st.builds(
            p.Connack,
            reason=reasons(reason.OF_CONNACK) if v5 else st.sampled_from(CONNACK_3_1_1),
            session_present=st.booleans(),
            properties=properties(Place.CONNACK, version),
        ),
        st.builds(
            p.Subscribe,
            packet_id=packet_ids,
            subscriptions=_some(_subscriptions(version)),
            properties=properties(Place.SUBSCRIBE, version),
        ),
        st.builds(
            p.Suback,
            packet_id=packet_ids,
            reasons=_some(reasons(reason.OF_SUBACK) if v5 else st.sampled_from(SUBACK_3_1_1)),
            properties=properties(Place.SUBACK, version),
        ),
        st.builds(
            p.Unsubscribe,
            packet_id=packet_ids,
            filters=_some(words),
            properties=properties(Place.UNSUBSCRIBE, version),
        ),
        st.builds(
            p.Unsuback,
            packet_id=packet_ids,
            reasons=_some(reasons(reason.OF_UNSUBACK)) if v5 else st.just(()),
            properties=properties(Place.UNSUBACK, version),
        ),
        st.just(p.Pingreq()),
        st.just(p.Pingresp()),
    ]
    if not v5:
        return st.one_of(*common, st.just(p.Disconnect()))
    return st.one_of(
        *common,
        st.builds(p.Disconnect, reason=reasons(reason.OF_DISCONNECT), properties=properties(Place.DISCONNECT, version)),
        st.builds(p.Auth, reason=reasons(reason.OF_AUTH), properties=properties(Place.AUTH, version)),
    )


class Numbers:
    """Numbers for topics, as the gateway's table gives them."""

    def __init__(self, *topics: str) -> None:
        self.known: dict[bytes, int] = {}
        self.names: list[str] = []
        for topic in topics:
            self.number(topic)

    def number(self, topic: str) -> int:
        number = self.known.setdefault(topic_key(topic), len(self.names))
        if number == len(self.names):
            self.names.append(topic)
        return number


_USER = Properties(user_properties=(("line", "7"), ("line", "8")))

SAMPLES: list[tuple[p.Packet, Version]] = [
    (
        p.Connect(
            client_id="press-1", keep_alive=60, user_name="ann", password=b"secret", will=p.Will(topic="gone", qos=1)
        ),
        Version.V3_1_1,
    ),
    (p.Connack(reason=Reason.NOT_AUTHORIZED), Version.V3_1_1),
    (p.Publish(topic="site/a/press-1/telemetry", payload=b"21.5", qos=1, packet_id=7), Version.V3_1_1),
    (p.Puback(packet_id=7), Version.V3_1_1),
    (p.Subscribe(packet_id=1, subscriptions=(p.Subscription("a/#", 1), p.Subscription("b/+"))), Version.V3_1_1),
    (p.Suback(packet_id=1, reasons=(Reason.GRANTED_QOS_1, Reason.UNSPECIFIED_ERROR)), Version.V3_1_1),
    (p.Unsubscribe(packet_id=2, filters=("a/#",)), Version.V3_1_1),
    (p.Unsuback(packet_id=2), Version.V3_1_1),
    (p.Pingreq(), Version.V3_1_1),
    (p.Pingresp(), Version.V3_1_1),
    (p.Disconnect(), Version.V3_1_1),
    (
        p.Connect(
            version=Version.V5,
            client_id="press-1",
            properties=Properties(receive_maximum=10, session_expiry_interval=60, authentication_method="x"),
            will=p.Will(topic="gone", properties=Properties(will_delay_interval=5)),
        ),
        Version.V5,
    ),
    (
        p.Connack(properties=Properties(assigned_client_identifier="x", maximum_qos=1, server_keep_alive=60)),
        Version.V5,
    ),
    (
        p.Publish(
            topic="t",
            payload=b"{}",
            qos=2,
            packet_id=9,
            properties=Properties(
                content_type="application/json",
                response_topic="r",
                correlation_data=b"\0\1",
                subscription_identifiers=(1, 300),
                message_expiry_interval=1,
                payload_format_indicator=1,
                topic_alias=1,
                user_properties=(("id", "1"),),
            ),
        ),
        Version.V5,
    ),
    (p.Puback(packet_id=9, reason=Reason.QUOTA_EXCEEDED, properties=Properties(reason_string="full")), Version.V5),
    (p.Pubrec(packet_id=9, reason=Reason.NO_MATCHING_SUBSCRIBERS), Version.V5),
    (p.Pubrel(packet_id=9), Version.V5),
    (p.Pubcomp(packet_id=9, properties=_USER), Version.V5),
    (
        p.Subscribe(
            packet_id=1,
            subscriptions=(p.Subscription("a/+", 2, True, True, 1),),
            properties=Properties(subscription_identifiers=(5,)),
        ),
        Version.V5,
    ),
    (p.Suback(packet_id=1, reasons=(Reason.TOPIC_FILTER_INVALID,), properties=_USER), Version.V5),
    (p.Unsubscribe(packet_id=2, filters=("a/#", "b"), properties=_USER), Version.V5),
    (p.Unsuback(packet_id=2, reasons=(Reason.NO_SUBSCRIPTION_EXISTED,)), Version.V5),
    (p.Disconnect(reason=Reason.SERVER_MOVED, properties=Properties(server_reference="other")), Version.V5),
    (
        p.Auth(
            reason=Reason.CONTINUE_AUTHENTICATION,
            properties=Properties(authentication_method="m", authentication_data=b"d"),
        ),
        Version.V5,
    ),
]
