"""Events as lines of text that cannot steer a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from millstream.cli.lines import text_line
from millstream.event import Event

TIME = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def event(payload: bytes, topic: str = "site/a") -> Event:
    return Event(topic=topic, payload=payload, key="a", time=TIME, stream="events", partition=3, offset=17)


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
