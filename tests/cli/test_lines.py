"""Events as lines: JSON that keeps payloads as they came, and text that cannot steer a terminal."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.cli.lines import json_line, text_line
from millstream.event import Event

TIME = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def event(payload: bytes, topic: str = "site/a") -> Event:
    return Event(topic=topic, payload=payload, key="a", time=TIME, stream="events", partition=3, offset=17)


def test_a_json_line_has_exactly_the_promised_members() -> None:
    assert json_line(event(b'{"celsius": 91.50}')) == (
        b'{"stream":"events","partition":3,"offset":17,"time":"2026-01-31T12:00:00.250000Z","topic":"site/a",'
        b'"key":"a","id":null,"data":{"celsius": 91.50}}'
    )


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff\xfe", b'"\xff"', b"{", b'{"a":1}x', b"nan", b"[" * 100_000])
def test_what_is_no_json_is_base64(payload: bytes) -> None:
    line = json.loads(json_line(event(payload)))
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
    assert json_line(event(payload)).endswith(b'"data":' + kept + b"}")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.text(min_size=1), st.sampled_from([None, 2]))
def test_every_json_payload_can_be_read_back(value: object, topic: str, indent: int | None) -> None:
    line = json_line(event(json.dumps(value, indent=indent, ensure_ascii=False).encode(errors="surrogatepass"), topic))
    assert b"\n" not in line
    assert json.loads(line)["data"] == value
    assert json.loads(line)["topic"] == topic


@given(st.binary(), st.text())
def test_a_text_line_is_one_line_without_control_characters(payload: bytes, topic: str) -> None:
    line = text_line(event(payload, topic)).decode(errors="strict")
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_a_text_line_shows_what_can_be_shown() -> None:
    assert text_line(event("21 °C\x1b[2J".encode())).decode() == "2026-01-31T12:00:00.250000Z  site/a  21 °C\\x1b[2J"


def test_a_dead_letter_shows_who_gave_it_up_and_why() -> None:
    letter = event(b"{")
    letter.headers = {"dead-letter-reason": "no JSON\x1b", "dead-letter-group": "overheating"}
    assert text_line(letter).decode().endswith("site/a  {  [overheating: no JSON\\x1b]")
