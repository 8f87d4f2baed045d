"""The beginning of a packet, kept until all of it is there."""

from __future__ import annotations

from millstream.mqtt.wire import frame


class Rest:
    """Bytes that trickle in one by one cost no more than those that come at once: nobody looks at a packet again before
    all of it is there."""

    __slots__ = ("_data", "_need")

    def __init__(self) -> None:
        self._data = bytearray()
        self._need = 0  # the bytes it must have before another look is worth while

    def __len__(self) -> int:
        return len(self._data)

    def keep(self, data: bytes, position: int, limit: int | None) -> None:
        """Keep what begins at a position, of a packet of at most `limit` bytes; None: whatever it is. Raises
        `ProtocolError`."""
        self._data += data[position:]
        found = frame(data, position, limit) if limit is not None else None
        self._need = found[1] - position if found else 0

    def take(self, data: bytes) -> bytes | None:
        """What was kept, and what has come; None while that is not enough."""
        self._data += data
        if len(self._data) < self._need:
            return None
        together = bytes(self._data)
        self._data.clear()
        return together
