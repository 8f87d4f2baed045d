"""An event, and a batch of events.

An event is one fact, with the attributes of CloudEvents 1.0. A batch holds many of them as Arrow columns: the
hot path moves batches and never makes an `Event`; handlers see events, made from the batch one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.clock import Micros, to_datetime
from millstream.errors import PayloadError

EVENT_FIELDS: list[pa.Field] = [
    pa.field("topic", pa.string(), nullable=False),
    pa.field("key", pa.string()),  # None: the stream's rule finds it
    pa.field("id", pa.string()),
    pa.field("type", pa.string()),
    pa.field("content_type", pa.string()),
    pa.field("headers", pa.map_(pa.string(), pa.string())),  # further attributes and user properties
    pa.field("data", pa.binary(), nullable=False),  # the payload's bytes as they came
]

EVENT_SCHEMA: pa.Schema = pa.schema(EVENT_FIELDS)
"""The columns of events on their way into the log, which stamps their time when it commits them."""

BATCH_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        *EVENT_FIELDS,
    ]
)
"""The columns of events that were read: `EVENT_SCHEMA` after the offset and the commit time."""


RESEND_GROUP = "resend-group"
"""The header of an event that is sent again: the only group that shall take it. No device can set it."""


class Event(msgspec.Struct, kw_only=True):
    """One fact: what was published, where, and (once it is in a stream) when and at which position.

    `payload` holds the bytes as they came; `data` is what they say. An event without an `id` of its own is
    identified by its position.
    """

    topic: str
    payload: bytes = b""
    key: str | None = None
    id: str | None = None
    type: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = {}
    time: datetime | None = None
    stream: str | None = None
    partition: int = -1
    offset: int = -1

    @property
    def data(self) -> Any:
        """The payload decoded: JSON unless `content_type` says text or another media type, which stay `str` and
        `bytes`. Raises `PayloadError` if it does not decode."""
        kind = self.content_type or "application/json"
        try:
            if kind.startswith("text/"):
                return self.payload.decode()
            if "json" in kind:
                return msgspec.json.decode(self.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PayloadError(
                f"the payload at {self.position} on topic {self.topic!r} is no {kind}: {error}"
            ) from error
        return self.payload

    @property
    def position(self) -> str:
        """`stream:partition:offset`, stable for ever: an idempotency key for effects outside of Millstream."""
        return f"{self.stream}:{self.partition}:{self.offset}"

    @property
    def source(self) -> str:
        """CloudEvents `source`: the publisher's own, or the topic as a URI reference."""
        return self.headers.get("source") or f"/topics/{quote(self.topic)}"


def encode_payload(data: Any) -> tuple[bytes, str | None]:
    """`data` as bytes and its content type: bytes stay as they are, `str` is text, anything else becomes JSON."""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data), None
    if isinstance(data, str):
        return data.encode(), "text/plain"
    if hasattr(data, "model_dump_json"):  # a pydantic model, without importing pydantic
        return data.model_dump_json().encode(), "application/json"
    return msgspec.json.encode(data), "application/json"


def to_columns(events: Iterable[Event]) -> pa.RecordBatch:
    """Events as columns of `EVENT_SCHEMA`."""
    rows = list(events)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([e.topic for e in rows], pa.string()),
            pa.array([e.key for e in rows], pa.string()),
            pa.array([e.id for e in rows], pa.string()),
            pa.array([e.type for e in rows], pa.string()),
            pa.array([e.content_type for e in rows], pa.string()),
            pa.array([list(e.headers.items()) or None for e in rows], EVENT_SCHEMA.field("headers").type),
            pa.array([e.payload for e in rows], pa.binary()),
        ],
        schema=EVENT_SCHEMA,
    )


def placed(events: pa.RecordBatch, offsets: Sequence[int], times: Sequence[Micros]) -> pa.RecordBatch:
    """Events (columns of `EVENT_SCHEMA`) as if they had been read: at these offsets, and committed at these times
    (columns of `BATCH_SCHEMA`)."""
    positions = [pa.array(offsets, pa.int64()), pa.array(times, BATCH_SCHEMA.field("time").type)]
    return pa.RecordBatch.from_arrays([*positions, *events.columns], schema=BATCH_SCHEMA)


@dataclass(frozen=True, slots=True)
class Tick:
    """A record that carries nothing but the time: the log appends it while something there can fall due.

    It stands before the event whose offset is the next larger one."""

    offset: int
    time: Micros


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """That a batch has only some of the events which were read: `rows` are their places among all `count` of them."""

    rows: npt.NDArray[np.int64]
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive events of one partition, in order, with explicit offsets (they increase, and may have gaps).

    `events` has the columns of `BATCH_SCHEMA`. `next_offset` is where to read on: it is past every event and tick
    in the batch, and past offsets that hold nothing. `selection` is None where all events are here. `is_sparse` says
    that columns which the reader does not look at may be null; the log has the whole events.
    """

    stream: str
    partition: int
    events: pa.RecordBatch
    next_offset: int
    ticks: tuple[Tick, ...] = ()
    selection: Selection | None = None
    is_sparse: bool = False

    def __len__(self) -> int:
        return int(self.events.num_rows)

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """When each event was committed, in microseconds."""
        times: npt.NDArray[np.int64] = self.events.column("time").view(pa.int64()).to_numpy()
        return times

    def __iter__(self) -> Iterator[Event]:
        stream, partition = self.stream, self.partition
        columns = self.events
        nothing: dict[str, str] = {}
        for offset, micros, topic, key, id_, type_, content_type, headers, data in zip(
            columns.column("offset").to_pylist(),
            self.times.tolist(),
            *(columns.column(field.name).to_pylist() for field in EVENT_FIELDS),
            strict=True,
        ):
            yield Event(
                topic=topic,
                payload=data,
                key=key,
                id=id_,
                type=type_,
                content_type=content_type,
                headers=dict(headers) if headers else nothing,
                time=to_datetime(micros),
                stream=stream,
                partition=partition,
                offset=offset,
            )
