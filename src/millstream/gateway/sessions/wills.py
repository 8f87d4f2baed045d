"""Wills: what the server publishes for clients that went away without a word (3.1.2.5).

A will is on disk before its client is told that it is let in, so that it is published after a crash of the server too:
with the next start, if the client has not come back within its delay. It goes from the disk in the transaction of its
event. Chunks `will/CLIENT` of the gateway's state.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from millstream.clock import SECOND, Micros
from millstream.mqtt import Properties
from millstream.mqtt.packet import Will

WILL = "will/"


class Pending(msgspec.Struct):
    """A will. `due` is when it is published, None while its client is connected."""

    will: Will
    due: Micros | None = None


class Wills:
    """Wills by client identifier."""

    def __init__(self) -> None:
        self._wills: dict[str, Pending] = {}
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._wills)

    def restore(self, chunks: Mapping[str, bytes]) -> list[str]:
        """Take on what was committed, by name. The clients that were connected then."""
        for name, chunk in chunks.items():
            self._wills[name.removeprefix(WILL)] = msgspec.msgpack.decode(chunk, type=Pending)
        return [client_id for client_id, pending in self._wills.items() if pending.due is None]

    def changes(self) -> dict[str, bytes | None]:
        """What has changed since the last call: chunks by name, None for those to drop."""
        changed, self._changed = self._changed, set()
        return {
            WILL + client_id: msgspec.msgpack.encode(self._wills[client_id]) if client_id in self._wills else None
            for client_id in changed
        }

    @property
    def has_changed(self) -> bool:
        """Whether there is anything that `changes` would give."""
        return bool(self._changed)

    def set(self, client_id: str, will: Will | None) -> bool:
        """A client has come: this is its will; one that was due no longer is. Whether anything changes."""
        had = client_id in self._wills
        if will is not None:
            self._wills[client_id] = Pending(will)
        elif had:
            del self._wills[client_id]
        if had or will is not None:
            self._changed.add(client_id)
        return had or will is not None

    def schedule(self, client_id: str, now: Micros, most: int) -> None:
        """A client is gone without a word: its will is due after its delay, or with the end of its session, after
        `most` seconds."""
        pending = self._wills.get(client_id)
        if pending is not None and pending.due is None:
            delay = min(pending.will.properties.will_delay_interval or 0, most)
            pending.due = now + delay * SECOND
            self._changed.add(client_id)

    def take(self, client_id: str) -> Will | None:
        """The will of a client, which is published now."""
        pending = self._wills.pop(client_id, None)
        if pending is None:
            return None
        self._changed.add(client_id)
        will = pending.will
        properties: Properties = msgspec.structs.replace(will.properties, will_delay_interval=None)
        return msgspec.structs.replace(will, properties=properties)

    def due(self, now: Micros) -> list[str]:
        """The clients whose wills are due."""
        return [client_id for client_id, its in self._wills.items() if its.due is not None and its.due <= now]
