"""Events as records and back, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.support.kafka_logs import message

from millstream.event import Batch, Event, to_columns
from millstream.log.kafka.record import TICK, decode, encode, is_tick, source_of

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
