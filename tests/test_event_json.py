"""Events as JSON that keeps payloads as they came."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import PayloadError
from millstream.event import Event
from millstream.event_json import event_json, read_event_json

TIME = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def event(payload: bytes, topic: str = "site/a") -> Event:
    return Event(topic=topic, payload=payload, key="a", time=TIME, stream="events", partition=3, offset=17)


def test_an_event_has_exactly_the_promised_members() -> None:
    assert event_json(event(b'{"celsius": 91.50}')) == (
        b'{"stream":"events","partition":3,"offset":17,"time":"2026-01-31T12:00:00.250000Z","topic":"site/a",'
        b'"key":"a","id":null,"data":{"celsius": 91.50}}'
    )


def test_what_few_events_have_is_shown_to_who_asks() -> None:
    its = event(b"1")
    its.type, its.content_type, its.headers = "reading", "application/json", {"source": "/s"}
    shown = json.loads(event_json(its, attributes=True))
    assert (shown["type"], shown["content_type"], shown["headers"]) == ("reading", "application/json", {"source": "/s"})
    assert event_json(its) == event_json(event(b"1"))
    assert event_json(event(b"1"), attributes=True) == event_json(event(b"1"))


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff\xfe", b'"\xff"', b"{", b'{"a":1}x', b"nan", b"[" * 100_000])
def test_what_is_no_json_is_base64(payload: bytes) -> None:
    line = json.loads(event_json(event(payload)))
    assert base64.b64decode(line["data_base64"]) == payload
    assert "data" not in line


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b"12345678901234567890123", b"12345678901234567890123"),
        (b"1.10", b"1.10"),
        (b'{\r\n "a": 1.10\n}', b'{"a":1.10}'),
        (b"null", b"null"),
    ],
)
def test_json_payloads_keep_their_numbers_and_stay_on_one_line(payload: bytes, kept: bytes) -> None:
    assert event_json(event(payload)).endswith(b'"data":' + kept + b"}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.text(min_size=1), st.sampled_from([None, 2]))
def test_every_json_payload_can_be_read_back(value: object, topic: str, indent: int | None) -> None:
    line = event_json(event(json.dumps(value, indent=indent, ensure_ascii=False).encode(errors="surrogatepass"), topic))
    assert b"\n" not in line
    assert json.loads(line)["data"] == value
    assert json.loads(line)["topic"] == topic


@given(
    st.builds(
        Event,
        topic=st.text(max_size=5),
        payload=st.binary(max_size=9) | st.sampled_from([b"null", b"1.50", b'{"a": 1}', b'""']),
        key=st.none() | st.text(max_size=5),
        id=st.none() | st.text(min_size=1, max_size=5),
        type=st.none() | st.text(min_size=1, max_size=5),
        content_type=st.none() | st.text(min_size=1, max_size=5),
        headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        time=st.none() | st.datetimes(timezones=st.just(UTC)),
        stream=st.text(max_size=5),
        partition=st.integers(0, 100),
        offset=st.integers(0, 2**60),
    ).filter(lambda event: not {b"\n", b"\r"} & {event.payload[n : n + 1] for n in range(len(event.payload))})
)
def test_an_event_with_its_attributes_is_read_back_as_it_was(its: Event) -> None:
    assert read_event_json(event_json(its, attributes=True)) == its


@pytest.mark.parametrize("written", [b"", b"{}", b"[]", b'{"stream":"\xff"}', b"[" * 50_000])
def test_what_is_no_event_is_told(written: bytes) -> None:
    with pytest.raises(PayloadError, match="this is no event"):
        read_event_json(written)
