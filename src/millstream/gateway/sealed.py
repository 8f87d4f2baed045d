"""Gathered events with the streams and partitions that capture them, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.event import EVENT_SCHEMA
from millstream.gateway.attributes import Attributes, from_properties
from millstream.gateway.deduplication import digest
from millstream.gateway.gathering import Gathering
from millstream.gateway.topic_table import Topic
from millstream.log import Router, Target

_HEADERS = EVENT_SCHEMA.field("headers").type


class Sealed:
    """Events that are complete as a batch. Row i is on `topics[topic_codes[i]]` and goes to `routes[route_codes[i]]`:
    the route of its topic, unless it has a key of its own or is left out."""

    def __init__(self, gathering: Gathering, router: Router) -> None:
        self.gathering = gathering
        for row, properties in gathering.arrivals.properties.items():
            gathering.attributes[row] = from_properties(properties)
        self.topics, self.topic_codes = _encode_topics(gathering)
        self.duplicates: Sequence[int] = ()
        self.route(router)

    def __len__(self) -> int:
        return len(self.gathering)

    def route(self, router: Router) -> None:
        """Find the routes, or find them again after the streams have changed."""
        self.routes: list[tuple[Target, ...]] = [topic.targets(router) for topic in self.topics]
        self.route_codes = self.topic_codes.copy()
        self.is_captured: npt.NDArray[np.bool_] = np.array([bool(route) for route in self.routes], bool)[
            self.topic_codes
        ]
        self._route_by_own_keys(router)
        self.leave_out(self.duplicates)

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
                digests.append(digest(self.topics[self.topic_codes[row]].name, its.id))
        return rows, digests

    def leave_out(self, duplicates: Sequence[int]) -> None:
        """These rows (ascending) go nowhere."""
        self.duplicates = duplicates
        if duplicates:
            self.routes.append(())
            self.route_codes[np.array(duplicates)] = len(self.routes) - 1

    def columns(self) -> pa.RecordBatch:
        """The events as columns of `EVENT_SCHEMA`, without keys."""
        count = len(self)
        names = pa.array([topic.name for topic in self.topics], pa.string())
        return pa.RecordBatch.from_arrays(
            [
                names.take(pa.array(self.topic_codes)),
                pa.nulls(count, pa.string()),
                *_sparse_columns(self.gathering.attributes, count),
                pa.array(self.gathering.arrivals.payloads, pa.binary()),
            ],
            schema=EVENT_SCHEMA,
        )

    def _route_by_own_keys(self, router: Router) -> None:
        codes: dict[tuple[int, str], int] = {}
        for row, its in self.gathering.attributes.items():
            if its.key is None:
                continue
            topic = int(self.topic_codes[row])
            if (topic, its.key) not in codes:
                codes[topic, its.key] = len(self.routes)
                self.routes.append(router.route(self.topics[topic].name, its.key))
            self.route_codes[row] = codes[topic, its.key]


def _encode_topics(gathering: Gathering) -> tuple[list[Topic], npt.NDArray[np.int32]]:
    """The topics that occur, and a code for each row. Their numbers are small, so a table is quicker than sorting."""
    all_topics = gathering.table.topics
    numbers = np.array(gathering.arrivals.topics, np.int32)
    occurs = np.zeros(len(all_topics), bool)
    occurs[numbers] = True
    used = np.flatnonzero(occurs)
    codes = np.empty(len(all_topics), np.int32)
    codes[used] = np.arange(len(used), dtype=np.int32)
    return [all_topics[number] for number in used.tolist()], codes[numbers]


def _sparse_columns(attributes: Mapping[int, Attributes], count: int) -> list[pa.Array]:
    """`id`, `type`, `content_type` and `headers`, which few events have."""
    if not attributes:
        return [*(pa.nulls(count, pa.string()) for _ in range(3)), pa.nulls(count, _HEADERS)]
    columns: list[list[object]] = [[None] * count for _ in range(4)]
    for row, its in attributes.items():
        values = (its.id, its.type, its.content_type, list(its.headers.items()) or None)
        for column, value in zip(columns, values, strict=True):
            column[row] = value
    kinds = (pa.string(), pa.string(), pa.string(), _HEADERS)
    return [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
