"""Events as records and back, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pyarrow as pa
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_logs import message

from millstream.event import EVENT_SCHEMA, RESEND_GROUP, Batch, Event, to_columns
from millstream.log.kafka.decoding import BARE, decode, decode_each, decode_together
from millstream.log.kafka.record import TICK, encode, is_tick, source_of

EPOCH = datetime.fromtimestamp(0, UTC)

NAMES = st.sampled_from(
    ["source", "subject", "type", "id", "topic", "ce_id", "ce_ce_x", "content-type", "millstream-tick", "Größe", "a b"]
) | st.text(max_size=8).filter(lambda name: "\0" not in name)
TEXT = st.text(max_size=12)
EVENTS = st.builds(
    Event,
    topic=st.sampled_from(["plant/a/press", "t/ö", "x"]),
    payload=st.binary(max_size=20),
    key=st.none() | TEXT,
    id=st.none() | TEXT,
    type=st.none() | TEXT.filter(lambda name: name != "millstream.event"),
    content_type=st.none() | TEXT,
    headers=st.dictionaries(NAMES, TEXT, max_size=4),
)


def there_and_back(event: Event, source: str = "") -> Event:
    (record,) = encode(to_columns([event]), source)
    records = decode("s", [message(record.value, record.key, record.headers)])
    (found,) = Batch("s", 0, records.events, records.next_offset)
    return found


@given(EVENTS)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    found = there_and_back(event, "some group")
    assert (found.topic, found.payload, found.key, found.id, found.type, found.content_type) == (
        event.topic,
        event.payload,
        event.key,
        event.id,
        event.type,
        event.content_type,
    )
    assert found.source == event.source
    if event.headers.get("source"):
        assert dict(found.headers) == dict(event.headers) or found.source == f"/topics/{event.topic}"
    else:
        assert dict(found.headers) == {name: value for name, value in event.headers.items() if name != "source"}


def test_a_record_is_a_complete_cloudevent_in_binary_mode() -> None:
    event = Event(topic="plant/press 1", payload=b"{}", key="press-1", id="7", type="reading", content_type="text/x")
    (record,) = encode(to_columns([event]))
    assert (record.key, record.value) == (b"press-1", b"{}")
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"7",
        "ce_source": b"/topics/plant/press%201",
        "ce_type": b"reading",
        "ce_topic": b"plant/press 1",
        "content-type": b"text/x",
    }
    (bare,) = encode(to_columns([Event(topic="t")]))
    assert {"ce_specversion", "ce_id", "ce_source", "ce_type"} <= dict(bare.headers).keys()


def test_no_events_are_no_records() -> None:
    assert list(encode(to_columns([]), "g")) == []


def test_what_others_write_is_an_event_on_the_streams_topic() -> None:
    records = decode(
        "orders",
        [
            message(b"plain", None, []),
            message(b"\xff\x00", b"\xfe", [("trace", b"\xff"), ("none", None)], offset=5),
            message(None, b"k", [], offset=6),
            message(
                b"{}", b"k", [("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"/other"), ("ce_x", b"y")], offset=7
            ),
        ],
    )
    plain, binary, tombstone, theirs = Batch("orders", 0, records.events, records.next_offset)
    assert (plain.topic, plain.key, plain.payload, plain.offset) == ("orders", "orders", b"plain", 0)
    assert (binary.payload, binary.key) == (b"\xff\x00", "\\xfe")
    assert dict(binary.headers) == {"trace": "\\xff", "none": ""}
    assert (tombstone.payload, tombstone.key) == (b"", "k")
    assert (theirs.id, theirs.type, dict(theirs.headers)) == ("1", "t", {"source": "/other", "x": "y"})
    assert records.next_offset == 8


def test_ticks_and_sources_are_told_by_headers() -> None:
    tick = message(None, None, TICK, offset=3, millis=1_000)
    assert is_tick(tick)
    records = decode("s", [tick])
    assert len(records) == 0
    assert [(one.offset, one.time) for one in records.ticks] == [(3, 1_000_000)]
    (record,) = encode(to_columns([Event(topic="t")]), "g")
    assert source_of(message(record.value, record.key, record.headers)) == "g"
    assert source_of(message(b"", None, [])) == ""


def test_who_needs_key_and_payload_alone_gets_no_more() -> None:
    events = [Event(topic=f"t/{n}", key=f"k{n}", payload=b"%d" % n, headers={"trace": f"{n}"}) for n in range(3)]
    messages = [
        message(record.value, record.key, record.headers, offset=5 + n, millis=n)
        for n, record in enumerate(encode(to_columns(events)))
    ]
    sparse, whole = decode("s", messages, sparse=True), decode("s", messages)
    assert {name for name in EVENT_SCHEMA.names if sparse.events.column(name).null_count == 0} == BARE
    for name in ("offset", "time", *BARE):
        assert sparse.events.column(name) == whole.events.column(name)
    assert (sparse.first, sparse.next_offset) == (whole.first, whole.next_offset) == (5, 8)


def test_an_event_that_is_sent_to_one_group_is_seen_by_those_who_need_no_headers() -> None:
    event = Event(topic="t", key="k", payload=b"{}", headers={RESEND_GROUP: "g"})
    (record,) = encode(to_columns([event]))
    assert record.key is None
    others = [message(b"{}", b"k", [], offset=1), message(None, None, TICK, offset=2)]
    records = decode("s", [message(record.value, record.key, record.headers), *others], sparse=True)
    sent, other = Batch("s", 0, records.events, records.next_offset)
    assert (sent.topic, sent.key, dict(sent.headers)) == ("t", "k", {RESEND_GROUP: "g"})
    assert (other.key, other.headers) == ("k", {})
    assert [tick.offset for tick in records.ticks] == [2]
    assert there_and_back(event) == msgspec.structs.replace(event, stream="s", partition=0, offset=0, time=EPOCH)


VALUES = st.sampled_from([b"", b"x", b"millstream:1", b"millstream.event", b"/topics/x", b"/other", b"\xff", None])
HEADERS = st.sampled_from(
    ["ce_id", "ce_type", "ce_source", "ce_topic", "ce_specversion", "content-type", "trace", "ce_x"]
) | st.sampled_from(["millstream-group", "millstream-key"])


@st.composite
def alike(draw: st.DrawFn) -> list[Message]:
    """Messages with headers of the same names, of which one may differ from the others."""
    names = draw(st.lists(HEADERS, max_size=6))
    values = draw(st.lists(VALUES, min_size=1, max_size=3))
    messages = [
        message(
            b"v",
            draw(st.sampled_from([b"k", b"\xfe", None])),
            [(name, draw(st.sampled_from(values))) for name in names],
        )
        for _ in range(draw(st.integers(1, 5)))
    ]
    if draw(st.booleans()):
        others = draw(st.lists(st.tuples(HEADERS, VALUES), max_size=6))
        messages.insert(draw(st.integers(0, len(messages))), message(b"", b"o", others))
    return messages


def rows(columns: dict[str, pa.Array], count: int) -> list[list[object]]:
    return [columns[name].to_pylist() if name in columns else [None] * count for name in EVENT_SCHEMA.names]


@given(alike())
def test_messages_that_are_alike_are_decoded_together_as_each_by_itself(messages: list[Message]) -> None:
    found = decode_together("s", messages)
    if found is not None:
        assert rows(found, len(messages)) == rows(decode_each("s", messages), len(messages))


def test_what_the_gateway_writes_is_decoded_together() -> None:
    events = [Event(topic=f"t/{n}", key=f"k{n}", payload=b"{}", headers={"trace": f"{n}"}) for n in range(9)]
    messages = [message(record.value, record.key, record.headers) for record in encode(to_columns(events), "$gateway")]
    found = decode_together("s", messages)
    assert found is not None
    assert found.keys() == {"topic", "key", "headers", "data"}
    assert rows(found, 9) == rows(decode_each("s", messages), 9)
