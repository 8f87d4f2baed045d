"""What schemathesis does not know by itself: lines of JSON. The variable SCHEMATHESIS_HOOKS has it load this file."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def to_lines(context: Any, value: Any) -> bytes:
    """A line, or several."""
    values = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(each).encode() for each in values)


@schemathesis.deserializer("application/x-ndjson")
def from_lines(context: Any, response: Any) -> Any:
    """The opposite."""
    return [json.loads(line) for line in response.content.splitlines()]
