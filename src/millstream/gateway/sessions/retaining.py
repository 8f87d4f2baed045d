"""Retained messages on their way: from a batch into what is retained, and from there to who subscribes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from millstream.clock import Clock
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.fanout import posts_of
from millstream.gateway.sessions.queue import Queue
from millstream.gateway.sessions.queued import Queued
from millstream.gateway.sessions.retained import RETAINED, Retained
from millstream.mqtt import Granted

if TYPE_CHECKING:
    from millstream.gateway.listeners.connection import Connection

_UNSENT_BYTES = 64 << 10  # that a connection may have before it gets more
_NOT_RETAINED = "published, but not retained: there is no room, see settings 'limits.retained' and 'retained_bytes'"


class Retaining:
    """Gives and takes the messages in `retained`."""

    def __init__(self, retained: Retained, queue: Queue, clock: Clock) -> None:
        self.retained = retained
        self._queue = queue
        self._clock = clock

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Take on what was committed, beside other things."""
        self.retained.restore({name: chunk for name, chunk in state.items() if name.startswith(RETAINED)})

    def take_on(self, sealed: Sealed) -> dict[str, bytes | None]:
        """Take on the retained messages of a batch; what of them goes to disk. Who published one for which there is no
        room is told with its acknowledgement."""
        chunks: dict[str, bytes | None] = {}
        arrivals = sealed.gathering.arrivals
        if not arrivals.retained:
            return chunks
        rows = np.setdiff1d(np.array(list(arrivals.retained), np.int64), sealed.duplicates)
        for row, post in zip(rows.tolist(), posts_of(sealed, rows), strict=True):
            message = Queued(post, post.client_id)
            message.time = self._clock.now()
            chunks |= self.retained.apply(message)
            if post.payload and self.retained.get(post.topic.name) is not message:
                arrivals.explain(row, _NOT_RETAINED)
        return chunks

    def give(self, connection: Connection, granted: Granted) -> bool:
        """Let a connection have the messages that match a subscription, with its `send_retained` after the next commit;
        whether there are any. What a session that is kept has to get at QoS 1 or 2 goes through its queue, so that it
        is not lost either."""
        found = self.retained.match(granted.filter)
        for message in found:
            qos = min(message.post.qos, granted.qos)
            if qos and connection.kept is not None:
                self._queue_up(message, qos, granted, connection.client_id)
            else:
                if connection.retained is None:
                    connection.retained = {}
                connection.retained[message.post.topic.name, granted.filter] = granted
        return bool(found)

    def send(self, connection: Connection) -> None:
        """Send a connection what it has to get of them: as many as its window has room for and its socket takes."""
        outgoing = connection.outgoing
        while connection.retained and connection.has_room and outgoing.waiting < _UNSENT_BYTES:
            topic, _ = key = next(iter(connection.retained))
            granted = connection.retained.pop(key)
            message = self.retained.get(topic)
            now = self._clock.now()
            if message is not None and not message.is_expired(now):
                qos = min(message.post.qos, granted.qos)
                connection.deliver(message.encode(connection.version, qos, granted.identifiers, True, now), qos)
        connection.flush()

    def _queue_up(self, message: Queued, qos: int, granted: Granted, client_id: str) -> None:
        now = self._clock.now()
        if not message.is_expired(now):
            its = msgspec.structs.replace(message.remaining(now), subscription_identifiers=granted.identifiers)
            post = msgspec.structs.replace(message.post, qos=qos, properties=its)
            self._queue.append(Queued(post, session=client_id))
