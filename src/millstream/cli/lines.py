"""An event as a line of text for people, and JSON as people write it in an option."""

from __future__ import annotations

import json
from typing import Any

from millstream.cli.output import printable
from millstream.errors import SettingsError
from millstream.event import Event
from millstream.event_json import event_time
from millstream.ledger import letter


def text_line(event: Event) -> bytes:
    """Time, topic and payload, on one line whatever they hold; of a dead letter also who gave it up, and why."""
    line = f"{event_time(event)}  {printable(event.topic)}  {payload_text(event.payload)}"
    if (reason := event.headers.get(letter.REASON)) is not None:
        line += f"  [{printable(event.headers.get(letter.GROUP, '?'))}: {printable(reason)}]"
    return line.encode()


def payload_text(payload: bytes) -> str:
    """A payload for people; what cannot be shown is escaped."""
    return printable(payload.decode(errors="backslashreplace"))


def json_object(option: str, text: str | None) -> dict[str, Any] | None:
    """The JSON object that an option gives. `SettingsError` if it is none."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f'{option} {text}: this is no object, such as \'{{"site": "a"}}\'')
    return found
