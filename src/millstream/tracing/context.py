"""W3C Trace Context in an event's headers, as in CloudEvents' Distributed Tracing extension: `traceparent`, and with it
perhaps `tracestate`.

https://www.w3.org/TR/trace-context/ · https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import hexdigits

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import Event

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACE_HEADERS = (TRACEPARENT, TRACESTATE)

_LENGTHS = (2, 32, 16, 2)  # hexadecimal digits: version, trace, parent, flags
_HEX = frozenset(hexdigits.lower())
_SAMPLED = 1

Trace = Mapping[str, str]
"""The headers that hold a context; empty for none."""


def trace_of(headers: Mapping[str, str]) -> Trace:
    """The context among headers, if it is one."""
    if not is_traceparent(headers.get(TRACEPARENT, "")):
        return {}
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}


def traces_of(headers: pa.MapArray) -> dict[int, Trace]:
    """The contexts in a column of headers, by row. It costs next to nothing where no event has headers."""
    if headers.null_count == len(headers):
        return {}
    found = pc.map_lookup(headers, pa.scalar(TRACEPARENT), "first")
    return {
        row: trace
        for row in pc.indices_nonzero(found.is_valid()).to_pylist()
        if (trace := trace_of(dict(headers[row].as_py())))
    }


def is_traceparent(text: str) -> bool:
    """Whether it has the form of a `traceparent` (W3C, 3.2). A later version may have more fields."""
    fields = text.split("-")
    if tuple(map(len, fields[:4])) != _LENGTHS or not _HEX.issuperset("".join(fields[:4])):
        return False
    version, trace, parent = fields[:3]
    return version != "ff" and (version != "00" or len(fields) == 4) and bool(int(trace, 16) and int(parent, 16))


def is_sampled(trace: Trace) -> bool:
    """Whether who began the trace records it."""
    return bool(trace) and bool(int(trace[TRACEPARENT].split("-")[3], 16) & _SAMPLED)


def carry(trace: Trace, events: Iterable[Event]) -> list[Event]:
    """What a cause in this context has led to: in the same context, unless it says otherwise."""
    if not trace:
        return list(events)
    return [
        event if TRACEPARENT in event.headers else msgspec.structs.replace(event, headers={**event.headers, **trace})
        for event in events
    ]
