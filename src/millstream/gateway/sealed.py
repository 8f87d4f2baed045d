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
    """Events that are complete as a batch: row i has code `codes[i]`, which stands for its topic (and its own key if it
    has one), and goes to `routes[codes[i]]`. `run_codes` has the codes of the runs of `gathering.arrivals`."""

    def __init__(self, gathering: Gathering, router: Router) -> None:
        arrivals = gathering.arrivals
        for row, properties in arrivals.properties.items():
            gathering.attributes[row] = from_properties(properties)
        codes: dict[Topic, int] = {}
        self.gathering = gathering
        self.run_codes = [codes.setdefault(topic, len(codes)) for topic in arrivals.topics]
        self.topics = list(codes)
        self._duplicates: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.route(router)

    def __len__(self) -> int:
        return len(self.gathering)

    def route(self, router: Router) -> None:
        """Find the routes, or find them again after the streams have changed."""
        del self.topics[max(self.run_codes, default=-1) + 1 :]
        self.routes = [topic.targets(router) for topic in self.topics]
        self._is_captured = np.array([bool(route) for route in self.routes], bool)
        lengths = np.diff(np.array([*self.gathering.arrivals.starts, len(self)]))
        self._topic_codes = np.repeat(np.array(self.run_codes, np.int32), lengths)
        self.codes = self._topic_codes.copy()
        self._route_by_own_keys(router)
        self.leave_out(self._duplicates)

    @property
    def captured(self) -> int:
        """How many events go to streams, or would if they were no duplicates."""
        return int(np.count_nonzero(self._is_captured[self._topic_codes]))

    @property
    def duplicates(self) -> list[int]:
        """The rows that are left out, ascending."""
        return [int(row) for row in self._duplicates]

    def is_captured(self, run: int) -> bool:
        """Whether a run's events go to streams."""
        return bool(self._is_captured[self.run_codes[run]])

    def ids(self) -> tuple[list[int], list[bytes]]:
        """The rows that go to a stream and have an id, ascending, and the digests of those ids."""
        rows: list[int] = []
        digests: list[bytes] = []
        for row, its in sorted(self.gathering.attributes.items()):
            code = self._topic_codes[row]
            if its.id is not None and self._is_captured[code]:
                rows.append(row)
                digests.append(digest(self.topics[code].name, its.id))
        return rows, digests

    def leave_out(self, duplicates: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """These rows go nowhere: they get a code whose route is empty."""
        self._duplicates = np.asarray(duplicates, np.int64)
        if len(self._duplicates):
            self.codes[self._duplicates] = self._code(self.topics[0], ())

    def columns(self) -> pa.RecordBatch:
        """The events as columns of `EVENT_SCHEMA`, without keys."""
        count = len(self)
        names = pa.array([topic.name for topic in self.topics], pa.string())
        return pa.RecordBatch.from_arrays(
            [
                names.take(pa.array(self.codes)),
                pa.nulls(count, pa.string()),
                *_sparse_columns(self.gathering.attributes, count),
                pa.array(self.gathering.arrivals.payloads, pa.binary()),
            ],
            schema=EVENT_SCHEMA,
        )

    def _route_by_own_keys(self, router: Router) -> None:
        known: dict[tuple[int, str], int] = {}
        for row, its in self.gathering.attributes.items():
            if its.key is not None:
                pair = (int(self._topic_codes[row]), its.key)
                if pair not in known:
                    topic = self.topics[pair[0]]
                    known[pair] = self._code(topic, router.route(topic.name, its.key))
                self.codes[row] = known[pair]

    def _code(self, topic: Topic, route: tuple[Target, ...]) -> int:
        self.topics.append(topic)
        self.routes.append(route)
        return len(self.routes) - 1


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
