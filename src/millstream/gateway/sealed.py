"""Gathered events with what they became: which are captured, which are duplicates, and the appends to streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.event import EVENT_SCHEMA
from millstream.gateway.attributes import from_properties
from millstream.gateway.deduplication import digest
from millstream.gateway.gathering import Gathering
from millstream.gateway.routing import Routing, StreamRoutes
from millstream.gateway.topic_table import Topic

Rows = npt.NDArray[np.int64]
Append = tuple[str, int, pa.RecordBatch]

_HEADERS = EVENT_SCHEMA.field("headers").type


class Sealed:
    """Events that are complete as a batch. Row i is on `topics[codes[i]]`; `is_captured[i]` tells whether a stream
    takes it, unless it is one of the `duplicates` (ascending)."""

    def __init__(self, gathering: Gathering, routing: Routing) -> None:
        self.gathering = gathering
        for row, properties in gathering.arrivals.properties.items():
            gathering.attributes[row] = from_properties(properties)
        self._numbers, self.codes = _encode(np.array(gathering.arrivals.topics, np.int32), len(gathering.table.topics))
        self.topics: list[Topic] = [gathering.table.topics[number] for number in self._numbers.tolist()]
        self.duplicates: Sequence[int] = ()
        self.route(routing)

    def __len__(self) -> int:
        return len(self.gathering)

    def route(self, routing: Routing) -> None:
        """Find the routes, or find them again after the streams have changed."""
        self._routing = routing
        self.is_captured: npt.NDArray[np.bool_] = routing.captured(self._numbers)[self.codes]

    @property
    def captured(self) -> int:
        """How many events go to streams, or would if they were no duplicates."""
        return int(np.count_nonzero(self.is_captured))

    def ids(self) -> tuple[list[int], list[bytes]]:
        """The rows that go to a stream and have an id, ascending, and the digests of those ids."""
        rows: list[int] = []
        digests: list[bytes] = []
        for row, its in sorted(self.gathering.attributes.items()):
            if its.id is not None and self.is_captured[row]:
                rows.append(row)
                digests.append(digest(self.topics[self.codes[row]].name, its.id))
        return rows, digests

    def appends(self) -> list[Append]:
        """A stream, a partition, and its events (`EVENT_SCHEMA`) in order, for every one that has any."""
        columns = _Columns(self)
        return [append for stream in self._routing.streams() for append in columns.of(stream)]

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The numbers of `topics`."""
        return self._numbers


class _Columns:
    """The columns that the streams of a batch share."""

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed
        attributes = sealed.gathering.attributes
        count = len(sealed)
        self._names = pa.array([topic.name for topic in sealed.topics], pa.string())
        self._data = pa.array(sealed.gathering.arrivals.payloads, pa.binary())
        self._own_keys = {row: its.key for row, its in attributes.items() if its.key is not None}
        self._sparse: list[pa.Array] = []  # id, type, content_type and headers, which few events have
        if attributes:
            plain = (None, None, None, None)
            rows = [
                (its.id, its.type, its.content_type, list(its.headers.items()) or None) if its else plain
                for its in map(attributes.get, range(count))
            ]
            kinds = (pa.string(), pa.string(), pa.string(), _HEADERS)
            self._sparse = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), kinds, strict=True)]

    def of(self, stream: StreamRoutes) -> list[Append]:
        """A stream's appends: its rows are put in the order of their partitions, and cut where one begins."""
        sealed = self._sealed
        partitions = stream.partitions[sealed.numbers][sealed.codes]
        if stream.keys is None:
            for row, key in self._own_keys.items():
                if partitions[row] >= 0:
                    partitions[row] = stream.partition_of(key)
        if sealed.duplicates:
            partitions[np.array(sealed.duplicates)] = -1
        order = partitions.argsort(kind="stable")
        partitions = partitions[order]
        captured_from = int(partitions.searchsorted(0))
        if captured_from == len(order):
            return []
        order, partitions = order[captured_from:], partitions[captured_from:]
        events = self._take(stream, order)
        starts = [0, *(np.flatnonzero(partitions[1:] != partitions[:-1]) + 1).tolist()]
        return [
            (stream.name, int(partitions[start]), events.slice(start, end - start))
            for start, end in zip(starts, [*starts[1:], len(order)], strict=True)
        ]

    def _take(self, stream: StreamRoutes, order: Rows) -> pa.RecordBatch:
        rows = pa.array(order)
        topics = self._names.take(pa.array(self._sealed.codes[order]))
        nothing = pa.nulls(len(order), pa.string())
        sparse = [column.take(rows) for column in self._sparse] or [
            nothing,
            nothing,
            nothing,
            pa.nulls(len(order), _HEADERS),
        ]
        return pa.RecordBatch.from_arrays(
            [topics, self._keys(stream, order, topics), *sparse, self._data.take(rows)], schema=EVENT_SCHEMA
        )

    def _keys(self, stream: StreamRoutes, order: Rows, topics: pa.Array) -> pa.Array:
        if stream.keys is not None:
            by_code = [stream.keys[number] for number in self._sealed.numbers.tolist()]
            return pa.array(by_code, pa.string()).take(pa.array(self._sealed.codes[order]))
        if not self._own_keys:
            return topics
        own = map(self._own_keys.get, order.tolist())
        return pa.array([key or topic for key, topic in zip(own, topics.to_pylist(), strict=True)], pa.string())


def _encode(numbers: npt.NDArray[np.int32], count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The numbers (below `count`) that occur, and for each its place among them: quicker than by sorting."""
    occurs = np.zeros(count, bool)
    occurs[numbers] = True
    used = np.flatnonzero(occurs).astype(np.int32)
    codes = np.empty(count, np.int32)
    codes[used] = np.arange(len(used), dtype=np.int32)
    return used, codes[numbers]
