"""Events and batches: payloads, identities, columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.support.streams import make_batch

from millstream.errors import PayloadError
from millstream.event import EVENT_SCHEMA, Event, encode_payload, to_columns

texts = st.text(max_size=10)
events = st.lists(
    st.builds(
        Event,
        topic=texts,
        payload=st.binary(max_size=30),
        key=st.none() | texts,
        id=st.none() | texts,
        type=st.none() | texts,
        content_type=st.none() | texts,
        headers=st.dictionaries(texts, texts, max_size=3),
    ),
    max_size=5,
)
ATTRIBUTES = ("topic", "payload", "key", "id", "type", "content_type", "headers")


@given(events, st.integers(0, 1 << 40))
def test_events_become_columns_and_events_again(given_events: list[Event], first: int) -> None:
    offsets = range(first, first + 2 * len(given_events), 2)
    time = 1_767_225_600_000_001
    batch = make_batch(given_events, offsets, stream="s", partition=3, time=time)
    assert len(batch) == len(given_events)
    for sent, got, offset in zip(given_events, batch, offsets, strict=True):
        assert [getattr(got, name) for name in ATTRIBUTES] == [getattr(sent, name) for name in ATTRIBUTES]
        assert (got.stream, got.partition, got.offset) == ("s", 3, offset)
        assert got.position == f"s:3:{offset}"
        assert got.time == datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


def test_columns_without_events_have_their_schema() -> None:
    assert to_columns([]).schema.equals(EVENT_SCHEMA)


@pytest.mark.parametrize(
    ("payload", "content_type", "data"),
    [
        (b'{"a": [1, 2.5, null]}', None, {"a": [1, 2.5, None]}),
        (b"42", "application/json", 42),
        (b'"x"', "application/cloudevents+json; charset=utf-8", "x"),
        (b"42", "text/plain", "42"),
        ("ü".encode(), "text/csv; charset=utf-8", "ü"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
    ],
)
def test_a_payload_says_what_its_content_type_says(payload: bytes, content_type: str | None, data: Any) -> None:
    assert Event(topic="t", payload=payload, content_type=content_type).data == data


@pytest.mark.parametrize(
    ("payload", "content_type"), [(b"{", None), (b"", None), (b"\xff", "application/json"), (b"\xff", "text/plain")]
)
def test_what_does_not_decode_is_named(payload: bytes, content_type: str | None) -> None:
    event = Event(topic="t/1", payload=payload, content_type=content_type, stream="s", partition=1, offset=7)
    with pytest.raises(PayloadError, match="the payload at s:1:7 on topic 't/1' is no"):
        _ = event.data


def test_the_source_is_the_publishers_own_or_the_topic() -> None:
    assert Event(topic="a/b").source == "/topics/a/b"
    assert Event(topic="a/b", headers={"source": "urn:x"}).source == "urn:x"


class Reading(BaseModel):
    celsius: float


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("data", "payload", "content_type"),
    [
        (b"\x00", b"\x00", None),
        (bytearray(b"\x01"), b"\x01", None),
        (memoryview(b"\x02"), b"\x02", None),
        ("ü", "ü".encode(), "text/plain"),
        ({"a": 1}, b'{"a":1}', "application/json"),
        ([1, None], b"[1,null]", "application/json"),
        (Reading(celsius=1.5), b'{"celsius":1.5}', "application/json"),
        (Point(2), b'{"x":2}', "application/json"),
        (None, b"null", "application/json"),
    ],
)
def test_data_becomes_bytes_that_say_what_they_are(data: Any, payload: bytes, content_type: str | None) -> None:
    assert encode_payload(data) == (payload, content_type)
