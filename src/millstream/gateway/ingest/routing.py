"""Where topics go, as columns by topic number: the routes of a batch are found by indexing, without asking for each
topic. It grows with the table of topics; when the streams change, it is made anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.gateway.pubsub.topic_table import TopicTable
from millstream.log import Router, StreamSpec, Target, partition_of

_ROOM = 1_024  # topics at first
_FEW = 64  # texts that are found sooner one by one than by Arrow

Numbers = npt.NDArray[np.int32]


class Texts:
    """Texts by topic number, of which columns are made. They are kept as an array, which is behind while there are new
    ones: batches that have one of those make an array of their own, until that has cost as much as making the kept one
    anew."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self._array = pa.array([], pa.string())
        self._looked_up = 0  # one by one, since the array was made

    def take(self, numbers: Numbers) -> pa.Array:
        """The text of each number, of which there is at least one."""
        if len(numbers) <= _FEW:
            return self._look_up(numbers)
        if int(numbers.max()) >= len(self._array):
            if self._looked_up < len(self.texts):
                used, codes = distinct(numbers, len(self.texts))
                self._looked_up += len(used)
                return self._look_up(used).take(pa.array(codes))
            self._array = pa.array(self.texts, pa.string())
            self._looked_up = 0
        return self._array.take(pa.array(numbers))

    def _look_up(self, numbers: Numbers) -> pa.Array:
        texts = self.texts
        return pa.array([texts[number] for number in numbers.tolist()], pa.string())


def distinct(numbers: Numbers, count: int) -> tuple[Numbers, Numbers]:
    """The numbers (below `count`) that occur, ascending, and for each its place among them. Quicker than by sorting."""
    occurs = np.zeros(count, bool)
    occurs[numbers] = True
    used = np.flatnonzero(occurs).astype(np.int32)
    places = np.empty(count, np.int32)
    places[used] = np.arange(len(used), dtype=np.int32)
    return used, places[numbers]


class StreamRoutes:
    """The routes of topics to one stream. `partitions` is by topic number, -1 where it is not captured; `keys` too,
    or None where the stream has no key of its own, so that it is the topic's or the event's."""

    def __init__(self, spec: StreamSpec) -> None:
        self.name = spec.name
        self.count = spec.partitions
        self.partitions: npt.NDArray[Any] = np.full(_ROOM, -1, np.int16 if spec.partitions < 1 << 15 else np.int32)
        self.keys = None if spec.key is None else Texts([])

    def grow(self, room: int) -> None:
        """Have room for so many topics."""
        more = np.full(room - len(self.partitions), -1, self.partitions.dtype)
        self.partitions = np.concatenate([self.partitions, more])

    def partition_of(self, key: str) -> int:
        """The partition of an event's own key."""
        return partition_of(key, self.count)


class Routing:
    """The routes of all topics of a table, and their `names`."""

    def __init__(self, streams: Mapping[str, StreamSpec], table: TopicTable) -> None:
        self.table = table
        self.names = Texts([])
        self._router = Router(streams.values())
        self._streams = {name: StreamRoutes(spec) for name, spec in streams.items() if spec.topics}
        self._captured = np.zeros(_ROOM, bool)
        self._routed = 0

    def captured(self, numbers: Numbers) -> npt.NDArray[np.bool_]:
        """Whether any stream captures these topics. Numbers must be in the table."""
        self._extend()
        return self._captured[numbers]

    def streams(self) -> list[StreamRoutes]:
        """Every stream that captures something."""
        self._extend()
        return list(self._streams.values())

    def _extend(self) -> None:
        """Route the topics that are new."""
        topics = self.table.topics
        if len(topics) > len(self._captured):
            room = max(len(topics), 2 * len(self._captured))
            self._captured = np.concatenate([self._captured, np.zeros(room - len(self._captured), bool)])
            for stream in self._streams.values():
                stream.grow(room)
        for number in range(self._routed, len(topics)):
            self._route(number, {target.stream: target for target in self._router.route(topics[number].name)})
        self._routed = len(topics)

    def _route(self, number: int, targets: Mapping[str, Target]) -> None:
        self._captured[number] = bool(targets)
        self.names.texts.append(self.table.topics[number].name)
        for stream in self._streams.values():
            target = targets.get(stream.name)
            if target is not None:
                stream.partitions[number] = target.partition
            if stream.keys is not None:
                stream.keys.texts.append(target.key if target is not None else "")
