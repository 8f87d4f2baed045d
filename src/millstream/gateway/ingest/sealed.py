"""Gathered events with what they became: which are captured, which are duplicates, and the appends to streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.errors import PayloadError
from millstream.event import EVENT_SCHEMA
from millstream.gateway.attributes import PLAIN, Attributes, from_properties
from millstream.gateway.cloudevents import STRUCTURED, media_type_of, read_event
from millstream.gateway.ingest.deduplication import digest
from millstream.gateway.ingest.gathering import Gathering
from millstream.gateway.ingest.routing import Routing, StreamRoutes
from millstream.gateway.pubsub.topic_table import Topic

Append = tuple[str, int, pa.RecordBatch]

_TEXT = pa.string()
_SPARSE_TEXTS = ("id", "type", "content_type")
_HEADERS = EVENT_SCHEMA.field("headers").type


class Sealed:
    """Events that are complete as a batch. Row i is on the topic of number `numbers[i]`, and a stream takes it if
    `is_captured[i]` (`captured` are), unless it is one of the `duplicates` (ascending). `data[i]` is its payload, or
    what a CloudEvent in it carries."""

    def __init__(self, gathering: Gathering, routing: Routing) -> None:
        self.gathering = gathering
        self.data: Sequence[bytes] = gathering.arrivals.payloads
        self._take_attributes()
        self.numbers = np.array(gathering.arrivals.topics, np.int32)
        self.duplicates: Sequence[int] = ()
        self.route(routing)

    def __len__(self) -> int:
        return len(self.gathering)

    def _take_attributes(self) -> None:
        """Those that MQTT 5 clients sent, as properties or (structured mode) with the data in the payload."""
        gathering = self.gathering
        unpacked: dict[int, bytes] = {}
        for row, properties in gathering.arrivals.properties.items():
            gathering.attributes[row] = from_properties(properties)
            if properties.content_type and media_type_of(properties.content_type) == STRUCTURED:
                with suppress(PayloadError):  # what is none after all stays as it came: it is for its handler to judge
                    unpacked[row], gathering.attributes[row] = read_event(self.data[row])
        if unpacked:
            self.data = [unpacked.get(row, payload) for row, payload in enumerate(self.data)]

    def route(self, routing: Routing) -> None:
        """Find the routes, or find them again after the streams have changed."""
        self._routing = routing
        self.is_captured: npt.NDArray[np.bool_] = routing.captured(self.numbers)
        self.captured = int(np.count_nonzero(self.is_captured))

    def topic(self, row: int) -> Topic:
        """An event's topic."""
        return self.gathering.table.topics[int(self.numbers[row])]

    def ids(self) -> tuple[list[int], list[bytes]]:
        """The rows that go to a stream and have an id, ascending, and the digests of those ids."""
        rows: list[int] = []
        digests: list[bytes] = []
        for row, its in sorted(self.gathering.attributes.items()):
            if its.id is not None and self.is_captured[row]:
                rows.append(row)
                digests.append(digest(self.topic(row).name, its.id))
        return rows, digests

    def appends(self) -> list[Append]:
        """A stream, a partition, and its events (`EVENT_SCHEMA`) in order, for every one that has any."""
        columns = _Columns(self, self._routing)
        return [append for stream in self._routing.streams() for append in columns.of(stream)]


class _Columns:
    """The columns that the streams of a batch share."""

    def __init__(self, sealed: Sealed, routing: Routing) -> None:
        self._numbers = sealed.numbers
        self._duplicates = np.array(sealed.duplicates, np.int64)
        self._names = routing.names
        self._data = pa.array(sealed.data, pa.binary())
        attributes = sealed.gathering.attributes
        self._own_keys = {row: its.key for row, its in attributes.items() if its.key is not None}
        self._sparse = _sparse(attributes, len(sealed))

    def of(self, stream: StreamRoutes) -> list[Append]:
        """A stream's appends: its rows are put in the order of their partitions, and cut where one begins."""
        partitions = stream.partitions[self._numbers]
        if stream.keys is None:
            for row, key in self._own_keys.items():
                if partitions[row] >= 0:
                    partitions[row] = stream.partition_of(key)
        partitions[self._duplicates] = -1
        order = partitions.argsort(kind="stable")
        partitions = partitions[order]
        captured_from = int(partitions.searchsorted(0))
        if captured_from == len(order):
            return []
        order, partitions = order[captured_from:], partitions[captured_from:]
        events = self._take(stream, order)
        starts = [0, *((partitions[1:] != partitions[:-1]).nonzero()[0] + 1).tolist()]
        return [
            (stream.name, int(partitions[start]), events.slice(start, end - start))
            for start, end in zip(starts, [*starts[1:], len(order)], strict=True)
        ]

    def _take(self, stream: StreamRoutes, order: npt.NDArray[np.int64]) -> pa.RecordBatch:
        numbers = self._numbers[order]
        topics = self._names.take(numbers)
        if stream.keys is not None:
            keys = stream.keys.take(numbers)
        elif self._own_keys:
            own = map(self._own_keys.get, order.tolist())
            keys = pa.array([key or topic for key, topic in zip(own, topics.to_pylist(), strict=True)], _TEXT)
        else:
            keys = topics
        others = (_take(column, order) for column in (*self._sparse, self._data))
        return pa.RecordBatch.from_arrays([topics, keys, *others], schema=EVENT_SCHEMA)


def _sparse(attributes: Mapping[int, Attributes], rows: int) -> list[pa.Array]:
    """The columns id, type, content_type and headers, which few events have."""
    if not attributes:
        return [*[pa.nulls(rows, _TEXT)] * len(_SPARSE_TEXTS), pa.nulls(rows, _HEADERS)]
    all_of_them = [attributes.get(row, PLAIN) for row in range(rows)]
    texts = [_column([getattr(its, name) for its in all_of_them], _TEXT) for name in _SPARSE_TEXTS]
    return [*texts, _column([list(its.headers.items()) or None for its in all_of_them], _HEADERS)]


def _column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Values as a column; quicker than by Arrow where there is none."""
    return pa.nulls(len(values), kind) if values.count(None) == len(values) else pa.array(values, kind)


def _take(column: pa.Array, order: npt.NDArray[np.int64]) -> pa.Array:
    """The values in this order. Where they are the same in any, it need not be looked at, which costs more than all
    else for the few events of quiet times."""
    if len(column) == 1 or column.null_count == len(column):
        return column.slice(0, len(order))
    return column.take(pa.array(order))
