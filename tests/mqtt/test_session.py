"""A connection's life as the server sees it, without a socket and without a clock."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.packets import Numbers

from millstream.mqtt import packet as p
from millstream.mqtt.action import Action, Connecting, Ended, Subscribed, Unsubscribed
from millstream.mqtt.decode import decode
from millstream.mqtt.encode import encode
from millstream.mqtt.handshake import SessionLimits
from millstream.mqtt.memory import Memory
from millstream.mqtt.message import Bundle, Expiring, Message
from millstream.mqtt.outgoing import Outcome, Outgoing
from millstream.mqtt.packet import Version
from millstream.mqtt.properties import Properties
from millstream.mqtt.reason import Reason
from millstream.mqtt.scan import Arrivals
from millstream.mqtt.session import Session, State

both_versions = pytest.mark.parametrize("version", list(Version))


class Client:
    """The client's end: writes packets to a session, and reads what the session wrote."""

    def __init__(self, version: Version = Version.V5, limits: SessionLimits | None = None) -> None:
        self.version = version
        self.session = Session(limits or SessionLimits(), now=0.0)
        self.numbers = Numbers()
        self.arrivals = Arrivals(self.numbers)

    def connect(self, client_id: str = "press-1", **asked: object) -> p.Packet:
        """Connect, and give the answer."""
        packet = p.Connect(version=self.version, client_id=client_id, **asked)  # type: ignore[arg-type]
        (action,) = self.send(packet)
        if isinstance(action, Connecting):
            self.session.accept(client_id or "assigned")
        (answer,) = self.read()
        return answer

    def send(self, *packets: p.Packet) -> Sequence[Action]:
        return self.write(b"".join(encode(each, self.version) for each in packets))

    def write(self, data: bytes) -> Sequence[Action]:
        return self.session.receive(data, 0, self.arrivals, self)

    def acknowledge(self, answers: Sequence[bytes]) -> None:
        raise AssertionError("a session only tells what is owed")

    def explain(self, acknowledgement: bytes, text: str) -> bytes:
        return self.session.incoming.explain(acknowledgement, text)

    def read(self) -> list[p.Packet]:
        data = self.session.outgoing.take()
        found = []
        position = 0
        while (one := decode(data, position, version=self.version)) is not None:
            packet, position = one
            found.append(packet)
        assert position == len(data)
        return found


@pytest.fixture
def client() -> Client:
    """Connected, MQTT 5."""
    connected = Client()
    connected.connect()
    return connected


@both_versions
def test_connect_is_answered(version: Version) -> None:
    client = Client(version)
    answer = client.connect()
    assert isinstance(answer, p.Connack)
    assert (answer.reason, answer.session_present) == (Reason.SUCCESS, False)
    assert client.session.state is State.CONNECTED


@both_versions
@pytest.mark.parametrize(
    "client_id", ["a", "Z", "0", "0123456789abcdefghijABC", "UVWXYZlmnopqrstuvwxyzKL", "press/1 ü"]
)
def test_client_identifiers_that_must_be_taken(version: Version, client_id: str) -> None:
    answer = Client(version).connect(client_id)
    assert isinstance(answer, p.Connack)
    assert answer.reason is Reason.SUCCESS
    assert answer.properties.assigned_client_identifier is None


def test_an_mqtt_5_client_is_told_what_it_gets() -> None:
    answer = Client(limits=SessionLimits(packet_bytes=5_000, publish_maximum=1_000, max_keep_alive=60)).connect(
        "", keep_alive=600, properties=Properties(session_expiry_interval=9)
    )
    assert isinstance(answer, p.Connack)
    assert answer.properties == Properties(
        maximum_packet_size=5_000,
        receive_maximum=1_000,
        topic_alias_maximum=32,
        server_keep_alive=60,
        assigned_client_identifier="assigned",
    )


def test_a_session_may_not_be_kept_for_longer_than_the_limit() -> None:
    limits = SessionLimits(max_session_expiry=60)
    answers = [
        Client(limits=limits).connect(properties=Properties(session_expiry_interval=asked))
        for asked in (0, 9, 60, 61, 0xFFFFFFFF)
    ]
    expiries = [each.properties.session_expiry_interval for each in answers if isinstance(each, p.Connack)]
    assert expiries == [None, None, None, 60, 60]


def test_what_comes_behind_connect_waits_for_the_answer() -> None:
    client = Client()
    publish = p.Publish(topic="a", payload=b"1", qos=1, packet_id=1)
    actions = client.send(p.Connect(version=Version.V5, client_id="x"), publish)
    assert [type(each) for each in actions] == [Connecting]
    assert not client.send(publish)
    assert len(client.arrivals) == 0
    client.session.accept("x")
    assert not client.write(b"")
    assert client.arrivals.payloads == [b"1", b"1"]


@both_versions
def test_a_refused_client_is_told_why(version: Version) -> None:
    client = Client(version)
    client.send(p.Connect(version=version, client_id="x", user_name="ann"))
    ended = client.session.end(Reason.BAD_USER_NAME_OR_PASSWORD, "user name or password is wrong")
    assert ended.reason is Reason.BAD_USER_NAME_OR_PASSWORD
    (answer,) = client.read()
    assert isinstance(answer, p.Connack)
    assert answer.reason is Reason.BAD_USER_NAME_OR_PASSWORD
    assert not answer.session_present
    assert (answer.properties.reason_string is not None) is (version is Version.V5)


@both_versions
def test_connack_has_only_its_own_reasons(version: Version) -> None:
    """As when a server stops, or a client comes once more, before the answer."""
    client = Client(version)
    client.send(p.Connect(version=version, client_id="x"))
    assert client.session.end(Reason.SERVER_SHUTTING_DOWN).reason is Reason.SERVER_SHUTTING_DOWN
    assert client.read() == [p.Connack(reason=Reason.SERVER_UNAVAILABLE)]


def test_a_refusal_is_no_larger_than_the_client_takes() -> None:
    for largest, answers in ((30, [p.Connack(reason=Reason.SERVER_BUSY)]), (4, [])):
        client = Client()
        its = Properties(maximum_packet_size=largest)
        client.send(p.Connect(version=Version.V5, client_id="x", properties=its))
        if client.session.state is State.AUTHENTICATING:
            client.session.end(Reason.SERVER_BUSY, "a long text that does not fit at all")
        assert client.read() == answers


WILL = p.Will(topic="gone")
REFUSED_CONNECTS = {
    "authentication method": ({"properties": Properties(authentication_method="m")}, Reason.BAD_AUTHENTICATION_METHOD),
    "will with a wildcard": ({"will": p.Will(topic="a/#")}, Reason.TOPIC_NAME_INVALID),
    "long identifier": ({"client_id": "x" * 1025}, Reason.CLIENT_IDENTIFIER_NOT_VALID),
}


@pytest.mark.parametrize(("asked", "reason"), REFUSED_CONNECTS.values(), ids=REFUSED_CONNECTS)
def test_what_cannot_be_given_is_refused(asked: dict[str, object], reason: Reason) -> None:
    client = Client()
    answer = client.connect(**asked)  # type: ignore[arg-type]
    assert isinstance(answer, p.Connack)
    assert answer.reason is reason
    assert client.session.state is State.ENDED


def test_an_old_client_without_identifier_must_ask_for_a_clean_session() -> None:
    answer = Client(Version.V3_1_1).connect("", clean_start=False)
    assert answer == p.Connack(reason=Reason.CLIENT_IDENTIFIER_NOT_VALID)
    assert Client(Version.V3_1_1).connect("", clean_start=True) == p.Connack()


def test_an_old_client_hears_of_an_identifier_that_is_not_taken_and_of_other_errors_nothing() -> None:
    assert Client(Version.V3_1_1).connect("x" * 1025) == p.Connack(reason=Reason.CLIENT_IDENTIFIER_NOT_VALID)
    for wrong in (
        encode(p.Connect(client_id="x", will=p.Will(topic="a/#"))),
        b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00",  # its reserved flag
        b"\x10\x0b\x00\x04MQTT\x04\x02\x00\x00\x00",  # half a client identifier's length
    ):
        client = Client(Version.V3_1_1)
        (ended,) = client.write(wrong)
        assert isinstance(ended, Ended)
        assert client.session.outgoing.take() == b""


def test_an_old_client_may_ask_for_a_session_that_is_kept_and_is_told_there_is_none() -> None:
    assert Client(Version.V3_1_1).connect(clean_start=False) == p.Connack(session_present=False)


@pytest.mark.parametrize("first", [p.Pingreq(), p.Publish(topic="a"), p.Disconnect()])
def test_anything_before_connect_ends_the_connection_without_an_answer(first: p.Packet) -> None:
    client = Client(Version.V3_1_1)
    (ended,) = client.send(first)
    assert isinstance(ended, Ended)
    assert ended.reason is Reason.PROTOCOL_ERROR
    assert not ended.rejected
    assert client.read() == []


def test_an_unknown_version_is_answered_in_the_oldest_one() -> None:
    client = Client(Version.V3_1_1)
    (ended,) = client.write(b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x00\x00\x00")
    assert isinstance(ended, Ended)
    assert ended.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION
    assert client.session.outgoing.take() == b"\x20\x02\x00\x01"


def test_a_malformed_connect_of_mqtt_5_is_answered() -> None:
    client = Client()
    client.write(b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x00\x00\x00\x00")
    (answer,) = client.read()
    assert isinstance(answer, p.Connack)
    assert answer.reason is Reason.MALFORMED_PACKET


def test_garbage_gets_no_answer() -> None:
    client = Client(Version.V3_1_1)
    (ended,) = client.write(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(ended, Ended)
    assert client.session.outgoing.take() == b""


def test_messages_become_columns_and_their_acknowledgements_wait_in_order(client: Client) -> None:
    client.send(
        p.Publish(topic="a", payload=b"1", qos=1, packet_id=7),
        p.Publish(topic="a", payload=b"2", qos=1, packet_id=3),
        p.Publish(topic="b", payload=b"3", qos=0),
        p.Publish(topic="a", payload=b"4", qos=1, packet_id=4, properties=Properties(user_properties=(("id", "x"),))),
    )
    assert client.arrivals.payloads == [b"1", b"2", b"3", b"4"]
    assert [client.numbers.names[topic] for topic in client.arrivals.topics] == ["a", "a", "b", "a"]
    assert (client.arrivals.qualities, client.arrivals.quality_starts) == ([1, 0, 1], [0, 2, 3])
    assert client.arrivals.properties == {3: Properties(user_properties=(("id", "x"),))}
    assert b"".join(client.arrivals.acknowledgements) == b"\x40\x02\x00\x07\x40\x02\x00\x03\x40\x02\x00\x04"
    assert client.read() == []


@both_versions
@given(st.data())
def test_where_the_stream_is_cut_makes_no_difference(version: Version, data: st.DataObject) -> None:
    source = random.Random(data.draw(st.integers(0, 1 << 16)))
    sent = [p.Publish(topic=source.choice("abc"), payload=source.randbytes(source.randrange(300))) for _ in range(9)]
    stream = encode(p.Connect(version=version, client_id="x")) + b"".join(encode(each, version) for each in sent)
    client = Client(version)
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        for action in client.write(stream[:cut]):
            assert isinstance(action, Connecting)
            client.session.accept("x")
            assert not client.write(b"")
        stream = stream[cut:]
    assert client.arrivals.payloads == [each.payload for each in sent]
    assert not client.session.rest


def test_a_large_packet_that_trickles_in_costs_no_look_at_each_byte(client: Client) -> None:
    packet = encode(p.Publish(topic="a", payload=bytes(200_000)), Version.V5)
    for byte in packet:
        client.write(bytes((byte,)))
    assert len(client.arrivals) == 1


REFUSED = {
    "wildcard": (p.Publish(topic="a/+"), Reason.TOPIC_NAME_INVALID, True),
    "the server's topic": (p.Publish(topic="$SYS/broker/version"), Reason.TOPIC_NAME_INVALID, True),
    "empty topic": (p.Publish(topic=""), Reason.TOPIC_NAME_INVALID, True),
    "topic alias": (p.Publish(topic="a", properties=Properties(topic_alias=33)), Reason.TOPIC_ALIAS_INVALID, True),
    "topic alias 0": (p.Publish(topic="a", properties=Properties(topic_alias=0)), Reason.TOPIC_ALIAS_INVALID, True),
    "topic alias for nothing": (p.Publish(topic="", properties=Properties(topic_alias=1)), Reason.PROTOCOL_ERROR, True),
    "subscription identifier": (
        p.Publish(topic="a", properties=Properties(subscription_identifiers=(1,))),
        Reason.PROTOCOL_ERROR,
        True,
    ),
    "response topic with a wildcard": (
        p.Publish(topic="a", properties=Properties(response_topic="#")),
        Reason.TOPIC_NAME_INVALID,
        True,
    ),
    "second CONNECT": (p.Connect(version=Version.V5, client_id="x"), Reason.PROTOCOL_ERROR, False),
    "a server's packet": (p.Connack(), Reason.PROTOCOL_ERROR, False),
    "keeping a session that was not to be kept": (
        p.Disconnect(properties=Properties(session_expiry_interval=1)),
        Reason.PROTOCOL_ERROR,
        False,
    ),
    "AUTH": (p.Auth(), Reason.PROTOCOL_ERROR, False),
    "shared subscription with No Local": (
        p.Subscribe(packet_id=1, subscriptions=(p.Subscription("$share/g/a", 0, True),)),
        Reason.PROTOCOL_ERROR,
        False,
    ),
}


@pytest.mark.parametrize(("packet", "reason", "rejected"), REFUSED.values(), ids=REFUSED)
def test_what_is_forbidden_ends_the_connection_with_its_reason(
    client: Client, packet: p.Packet, reason: Reason, rejected: bool
) -> None:
    good = p.Publish(topic="a", payload=b"1", qos=1, packet_id=1)
    actions = client.send(good, packet, good)
    assert isinstance(actions[-1], Ended)
    assert (actions[-1].reason, actions[-1].rejected) == (reason, rejected)
    assert actions[-1].packet == (encode(packet, Version.V5) if rejected else b"")
    assert client.arrivals.payloads == [b"1"], "what came before counts, what came behind does not"
    (told,) = client.read()
    assert isinstance(told, p.Disconnect)
    assert told.reason is reason
    assert told.properties.reason_string == actions[-1].text


def test_no_topic_alias_is_taken_where_none_was_offered() -> None:
    client = Client(limits=SessionLimits(topic_aliases=0))
    answer = client.connect()
    assert isinstance(answer, p.Connack)
    assert answer.properties.topic_alias_maximum is None
    (ended,) = client.send(p.Publish(topic="a", properties=Properties(topic_alias=1)))
    assert isinstance(ended, Ended)
    assert ended.reason is Reason.TOPIC_ALIAS_INVALID


@pytest.mark.parametrize("sort", [p.Subscribe, p.Unsubscribe])
def test_no_answer_is_larger_than_the_client_takes(sort: type[p.Subscribe | p.Unsubscribe]) -> None:
    client = Client(limits=SessionLimits(subscriptions=50))
    client.connect(properties=Properties(maximum_packet_size=40))
    for count in (33, 34):
        names = [f"a/{number}" for number in range(count)]
        packet = (
            p.Subscribe(packet_id=1, subscriptions=tuple(map(p.Subscription, names)))
            if sort is p.Subscribe
            else p.Unsubscribe(packet_id=1, filters=tuple(names))
        )
        actions = client.send(packet)
        (told,) = client.read()
        if count == 33:
            assert isinstance(told, p.Suback | p.Unsuback) and len(told.reasons) == 33
            assert len(encode(told, Version.V5)) <= 40
        else:
            assert isinstance(told, p.Disconnect) and told.reason is Reason.PACKET_TOO_LARGE
            (ended,) = actions
            assert isinstance(ended, Ended)


def test_a_client_that_takes_no_connack_is_refused() -> None:
    for largest, reason in ((16, Reason.SUCCESS), (15, Reason.PACKET_TOO_LARGE)):
        answer = Client().connect(properties=Properties(maximum_packet_size=largest))
        assert isinstance(answer, p.Connack)
        assert answer.reason is reason
        assert len(encode(answer, Version.V5)) <= largest


def test_an_old_client_is_not_told() -> None:
    client = Client(Version.V3_1_1)
    client.connect()
    (ended,) = client.send(p.Publish(topic="a/+"))
    assert isinstance(ended, Ended)
    assert client.read() == []


@both_versions
def test_the_retain_flag_is_told(version: Version) -> None:
    client = Client(version)
    client.connect()
    client.send(p.Publish(topic="a", payload=b"1"), p.Publish(topic="a", payload=b"2", retain=True))
    assert (client.arrivals.payloads, list(client.arrivals.retained)) == ([b"1", b"2"], [1])


def test_too_large_a_packet_ends_the_connection() -> None:
    client = Client(limits=SessionLimits(packet_bytes=100))
    client.connect()
    (ended,) = client.send(p.Publish(topic="a", payload=bytes(101)))
    assert isinstance(ended, Ended)
    assert ended.reason is Reason.PACKET_TOO_LARGE


def test_ping_is_answered(client: Client) -> None:
    client.send(p.Pingreq())
    assert client.read() == [p.Pingresp()]


def test_subscriptions_are_granted_one_by_one() -> None:
    client = Client(limits=SessionLimits(subscriptions=3))
    client.connect()
    asked = ("a/#", "a/#/b", "$share/g/a", "b", "c", "a/#")
    actions = client.send(
        p.Subscribe(
            packet_id=5,
            subscriptions=tuple(p.Subscription(each, 2) for each in asked),
            properties=Properties(subscription_identifiers=(9,)),
        )
    )
    assert client.read() == [
        p.Suback(
            packet_id=5,
            reasons=(
                Reason.GRANTED_QOS_2,
                Reason.TOPIC_FILTER_INVALID,
                Reason.GRANTED_QOS_2,
                Reason.GRANTED_QOS_2,
                Reason.QUOTA_EXCEEDED,
                Reason.GRANTED_QOS_2,
            ),
        )
    ]
    granted = [each for each in actions if isinstance(each, Subscribed)]
    assert [(each.subscription.filter, each.subscription.qos) for each in granted] == [
        ("a/#", 2),
        ("$share/g/a", 2),
        ("b", 2),
        ("a/#", 2),
    ]
    assert granted[0].subscription.identifiers == (9,)
    assert [each.replaced for each in granted] == [None, None, None, granted[0].subscription]
    assert client.session.subscriptions == [granted[3].subscription, *(each.subscription for each in granted[1:3])]


def test_unsubscribing_tells_which_there_were(client: Client) -> None:
    client.send(p.Subscribe(packet_id=1, subscriptions=(p.Subscription("a"),)))
    client.read()
    (action,) = client.send(p.Unsubscribe(packet_id=2, filters=("a", "b")))
    assert isinstance(action, Unsubscribed)
    assert action.subscription.filter == "a"
    assert client.read() == [p.Unsuback(packet_id=2, reasons=(Reason.SUCCESS, Reason.NO_SUBSCRIPTION_EXISTED))]


@pytest.mark.parametrize(
    ("packet", "will"),
    [
        (p.Disconnect(), None),
        (p.Disconnect(reason=Reason.DISCONNECT_WITH_WILL), WILL),
        (p.Disconnect(reason=Reason.UNSPECIFIED_ERROR), WILL),
    ],
)
def test_the_will_is_for_ends_that_are_not_normal(packet: p.Disconnect, will: p.Will | None) -> None:
    client = Client()
    client.connect(will=WILL)
    (ended,) = client.send(packet)
    assert isinstance(ended, Ended)
    assert ended.will == will
    assert client.session.lost().will is None, "once only"


def test_the_will_is_published_when_the_connection_is_lost_or_in_error() -> None:
    lost, wrong = Client(), Client()
    lost.connect(will=WILL)
    wrong.connect(will=WILL)
    assert lost.session.lost().will == WILL
    (ended,) = wrong.write(b"\0\0")
    assert isinstance(ended, Ended)
    assert ended.will == WILL


@both_versions
def test_without_a_will_none_is_published(version: Version) -> None:
    client = Client(version)
    client.connect()
    assert client.session.lost().will is None


def test_a_client_that_is_not_let_in_has_no_will() -> None:
    client = Client()
    client.send(p.Connect(version=Version.V5, client_id="x", will=WILL))
    assert client.session.end(Reason.NOT_AUTHORIZED).will is None


def test_no_connect_in_time() -> None:
    client = Client(limits=SessionLimits(connect_timeout=10))
    client.write(b"\x10")
    assert client.session.overdue(9.9) is None
    assert client.session.overdue(10.1) is not None
    assert client.session.state is State.ENDED


def test_silence_for_one_and_a_half_keep_alives_ends_the_connection() -> None:
    client = Client()
    client.connect(keep_alive=10)
    assert client.session.overdue(4.0) is None
    client.send(p.Pingreq())
    assert client.session.overdue(5.0) is None
    client.read()
    assert client.session.overdue(19.9) is None
    ended = client.session.overdue(20.1)
    assert ended is not None
    (told,) = client.read()
    assert isinstance(told, p.Disconnect)
    assert told.reason is Reason.KEEP_ALIVE_TIMEOUT


def test_an_old_client_without_keep_alive_may_be_silent_for_ever() -> None:
    client = Client(Version.V3_1_1)
    client.connect(keep_alive=0)
    assert client.session.overdue(0.0) is None
    assert client.session.overdue(1e9) is None


def test_a_client_gets_no_explanation_larger_than_it_takes() -> None:
    client = Client()
    client.connect(properties=Properties(maximum_packet_size=20))
    client.session.end(Reason.SERVER_BUSY, "a long text that does not fit at all")
    assert client.read() == [p.Disconnect(reason=Reason.SERVER_BUSY)]


MESSAGE = Message(b"\x32\x06\x00\x01a", b"x\x00"[:1])


def test_only_a_window_of_messages_is_unacknowledged_and_the_rest_follows_in_order() -> None:
    client = Client(Version.V3_1_1)
    client.connect()
    assert client.session.memory is not None
    client.session.outgoing.accept(2, None, client.session.memory)
    for number in range(5):
        message = Message(b"\x32\x06\x00\x01a", bytes((number,)))
        assert client.session.outgoing.deliver(message, 1) is Outcome.SENT
    got = [each for each in client.read() if isinstance(each, p.Publish)]
    assert [(each.packet_id, each.payload[0]) for each in got] == [(1, 0), (2, 1)]
    client.send(p.Puback(packet_id=2), p.Puback(packet_id=9), p.Puback(packet_id=1))
    got = [each for each in client.read() if isinstance(each, p.Publish)]
    assert [(each.packet_id, each.payload[0]) for each in got] == [(3, 2), (4, 3)]
    assert client.session.outgoing.inflight == 2


def test_packet_identifiers_go_round_and_skip_those_in_flight() -> None:
    client = Client(Version.V3_1_1)
    client.connect()
    outgoing, memory = client.session.outgoing, client.session.memory
    assert memory is not None
    seen = []
    for _ in range(65_536):
        outgoing.unwritten = 0
        outgoing.deliver(MESSAGE, 1)
        outgoing.output.clear()
        packet_id = memory.last_id
        seen.append(packet_id)
        if packet_id != 5:
            outgoing.acknowledge(packet_id)
    assert seen[:65_535] == list(range(1, 65_536))
    assert seen[65_535] == 1
    for _ in range(4):
        outgoing.deliver(MESSAGE, 1)
    assert memory.last_id == 6, "5 is still in flight"


def test_beyond_the_bound_quality_0_is_dropped_and_quality_1_ends_the_connection() -> None:
    client = Client(limits=SessionLimits(session_bytes=50))
    client.connect()
    outgoing = client.session.outgoing
    outgoing.unwritten = 45
    assert outgoing.deliver(MESSAGE, 0) is Outcome.DROPPED
    assert outgoing.deliver(MESSAGE, 1) is Outcome.OVERFLOW
    outgoing.unwritten = 0
    assert outgoing.deliver(MESSAGE, 0) is Outcome.SENT


def test_a_message_larger_than_the_client_takes_is_dropped() -> None:
    client = Client()
    client.connect(properties=Properties(maximum_packet_size=20))
    assert client.session.outgoing.deliver(Message(bytes(10), bytes(9)), 1) is Outcome.DROPPED
    assert client.session.outgoing.deliver(Message(bytes(9), bytes(9)), 1) is Outcome.SENT


@given(
    st.lists(st.integers(0, 20), max_size=5),
    st.integers(0, 80),
    st.integers(0, 40),
    st.integers(15, 60),
    st.integers(0, 1),
)
def test_messages_are_taken_together_only_where_each_would_be_sent_as_it_is(
    sizes: list[int], limit: int, unwritten: int, largest: int, aliases: int
) -> None:
    def begin() -> Outgoing:
        outgoing = Outgoing(10, limit)
        outgoing.accept(None, largest, Memory(), aliases)
        outgoing.unwritten = unwritten
        return outgoing

    messages = [Message(b"\x30\x09\x00\x05topic", bytes(size)) for size in sizes]
    together, one_by_one = begin(), begin()
    if together.deliver_together(Bundle(messages)):
        assert all(one_by_one.deliver(message, 0) is Outcome.SENT for message in messages)
        assert together.unwritten == one_by_one.unwritten
        assert together.take() == one_by_one.take()
    else:
        assert (together.output, together.unwritten) == ([], unwritten)


def test_what_expires_while_it_waits_for_the_window_is_not_sent() -> None:
    client = Client(Version.V3_1_1)
    client.connect()
    outgoing, memory = client.session.outgoing, client.session.memory
    assert memory is not None
    outgoing.accept(1, None, memory)
    left = {b"1": Message(MESSAGE.head, b"1"), b"2": None, b"3": Message(MESSAGE.head, b"x")}
    for name in left:
        outgoing.deliver(Expiring.of(Message(MESSAGE.head, name), lambda name=name: left[name]), 1)  # type: ignore[misc]
    outgoing.deliver(MESSAGE, 1)
    got: list[bytes] = []
    while found := [each for each in client.read() if isinstance(each, p.Publish)]:
        assert len(found) == 1
        got.append(found[0].payload)
        client.send(p.Puback(packet_id=found[0].packet_id))
    assert got == [b"1", b"x", b"x"], "the second has expired, the third is another packet by now"
    assert outgoing.waiting == outgoing.unwritten
