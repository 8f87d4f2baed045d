"""Which topics are heard, as a column by topic number: the events of a batch that somebody listens to are found by
indexing, without asking for each topic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from millstream.gateway.pubsub.audience import Audience
from millstream.gateway.pubsub.topic_table import Topic, TopicTable

AT_ONCE, QUEUED = 1, 2
"""Ways in which a topic is heard, as bits: by those who get it now, and by sessions that take it from the queue."""
_KNOWN = 4

_ROOM = 1_024  # topics at first


class Hearing:
    """For the topics of a table and a `version` of the subscriptions. `audience` finds who listens to a topic, and is
    asked once for each."""

    def __init__(self, table: TopicTable, version: int, audience: Callable[[Topic], Audience | None]) -> None:
        self.table = table
        self.version = version
        self._audience = audience
        self._ways = np.zeros(_ROOM, np.uint8)  # 0 while it is not known

    def ways(self, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """In which ways these topics are heard. Their audiences stand in the table from now on."""
        topics = self.table.topics
        if len(topics) > len(self._ways):
            more = np.zeros(max(len(topics), 2 * len(self._ways)) - len(self._ways), np.uint8)
            self._ways = np.concatenate([self._ways, more])
        found: npt.NDArray[np.uint8] = self._ways[numbers]
        if not found.all():
            for number in np.unique(numbers[found == 0]).tolist():
                self._ways[number] = _KNOWN | _ways_of(self._audience(topics[number]))
            found = self._ways[numbers]
        return found


def _ways_of(audience: Audience | None) -> int:
    if audience is None:
        return 0
    return (AT_ONCE if audience.is_present() else 0) | (QUEUED if audience.lanes else 0)
