"""Why an event could not be processed, said for a person. Only asked for events that the decoder refused."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from millstream.engine.keys import Ints
from millstream.engine.step import Rejected
from millstream.event import Batch


def rejected_events(batches: Sequence[Batch], rows: Ints, time: str | None) -> list[Rejected]:
    """The events at these rows of batches together, and why; `time` is the query's `TIMESTAMP BY`."""
    if not len(rows):
        return []
    rejected = []
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    for row in rows.tolist():
        number = int(np.searchsorted(starts, row, "right")) - 1
        place = row - int(starts[number])
        payload = batches[number].events.column("data")[place].as_py()
        rejected.append(Rejected(number, place, reason(payload, time)))
    return rejected


def reason(payload: bytes, time: str | None) -> str:
    """What is wrong with a payload; `time` is the query's `TIMESTAMP BY`."""
    try:
        decoded = json.loads(payload.decode())
    except UnicodeDecodeError as error:
        return f"the payload is not UTF-8: byte {error.start} is 0x{payload[error.start]:02x}"
    except json.JSONDecodeError as error:
        return f"the payload is not JSON: {error}"
    except (ValueError, RecursionError) as error:  # a number too long, nesting too deep
        return f"the payload is JSON that cannot be read: {error}"
    if not isinstance(decoded, dict):
        return "the payload is JSON, but not an object"
    if time is not None:
        return f"the event has no time: {time} is missing in the payload, or is no time"
    return "the payload is JSON that cannot be read"
