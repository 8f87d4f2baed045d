"""A page: consecutive events of a partition, and the forms in which a client can have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec
import pyarrow as pa

from millstream.event import Batch, Event
from millstream.event_json import event_json
from millstream.gateway.cloudevents import BATCH, write_event

JSON = "application/json"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

PIECE = 128  # events that are written in one go: about a millisecond of the event loop


def part(batch: Batch, start: int, count: int) -> Batch:
    """At most `count` events of a batch, from one of them on."""
    if start + count >= len(batch):
        return replace(batch, events=batch.events.slice(start))
    events = batch.events.slice(start, count)
    return replace(batch, events=events, next_offset=events.column("offset")[-1].as_py() + 1)


class Form(NamedTuple):
    """How events are written: each by itself, with something before the first, between two, and after the last."""

    event: Callable[[Event], bytes]
    before: Callable[[Batch], bytes]
    between: bytes
    after: Callable[[Batch], bytes]

    def pieces(self, page: Batch) -> Iterator[bytes]:
        """A page, piece by piece."""
        yield self.before(page)
        for start in range(0, len(page), PIECE):
            joint = self.between if start else b""
            yield joint + self.between.join(map(self.event, part(page, start, PIECE)))
        yield self.after(page)


def json_form(attributes: bool) -> Form:
    """`{"stream", "partition", "events": [ … ], "next_offset"}`."""
    return Form(
        lambda event: event_json(event, attributes),
        lambda page: b'{"stream":%s,"partition":%d,"events":[' % (msgspec.json.encode(page.stream), page.partition),
        b",\n",
        lambda page: b'],"next_offset":%d}\n' % page.next_offset,
    )


def ndjson_form(attributes: bool) -> Form:
    """An event a line."""
    return Form(lambda event: event_json(event, attributes) + b"\n", lambda page: b"", b"", lambda page: b"")


CLOUD_EVENTS = Form(write_event, lambda page: b"[", b",\n", lambda page: b"]\n")
"""A batch of the JSON Event Format."""


def arrow_pieces(page: Batch) -> Iterator[bytes]:
    """An Arrow IPC stream of `BATCH_SCHEMA`; the schema's metadata have `stream`, `partition` and `next_offset`."""
    metadata = {"stream": page.stream, "partition": str(page.partition), "next_offset": str(page.next_offset)}
    events = page.events.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema) as writer:
        writer.write_batch(events)
    yield sink.getvalue().to_pybytes()


Pieces = Callable[[Batch], Iterator[bytes]]


def forms(attributes: bool) -> Mapping[str, Pieces]:
    """By media type, the default first."""
    return {
        JSON: json_form(attributes).pieces,
        NDJSON: ndjson_form(attributes).pieces,
        ARROW: arrow_pieces,
        BATCH: CLOUD_EVENTS.pieces,
    }
