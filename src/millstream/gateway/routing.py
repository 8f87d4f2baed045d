"""Where topics go, as columns by topic number: the routes of a batch are found by indexing, without asking for each
topic. It grows with the table of topics; when the streams change, it is made anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millstream.gateway.topic_table import TopicTable
from millstream.log import Router, StreamSpec, partition_of

_ROOM = 1_024  # topics at first


class StreamRoutes:
    """The routes of topics to one stream. `partitions` is by topic number, -1 where it is not captured; `keys` too,
    or None where the stream has no key of its own, so that it is the topic's or the event's."""

    def __init__(self, spec: StreamSpec) -> None:
        self.name = spec.name
        self.count = spec.partitions
        self.partitions: npt.NDArray[Any] = np.full(_ROOM, -1, np.int16 if spec.partitions < 1 << 15 else np.int32)
        self.keys: list[str] | None = None if spec.key is None else [""] * _ROOM

    def grow(self, room: int) -> None:
        """Have room for so many topics."""
        more = room - len(self.partitions)
        self.partitions = np.concatenate([self.partitions, np.full(more, -1, self.partitions.dtype)])
        if self.keys is not None:
            self.keys += [""] * more

    def partition_of(self, key: str) -> int:
        """The partition of an event's own key."""
        return partition_of(key, self.count)


class Routing:
    """The routes of all topics of a table."""

    def __init__(self, streams: Mapping[str, StreamSpec], table: TopicTable) -> None:
        self.table = table
        self._router = Router(streams.values())
        self._streams = {name: StreamRoutes(spec) for name, spec in streams.items() if spec.topics}
        self._captured = np.zeros(_ROOM, bool)
        self._routed = 0

    def captured(self, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
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
            for target in self._router.route(topics[number].name):
                stream = self._streams[target.stream]
                stream.partitions[number] = target.partition
                if stream.keys is not None:
                    stream.keys[number] = target.key
                self._captured[number] = True
        self._routed = len(topics)
