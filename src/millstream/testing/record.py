"""What a plant's streams and groups hold, as it was when the plant last came to rest: asserts do not wait."""

from __future__ import annotations

from millstream.clock import to_micros
from millstream.errors import LogError, UnknownStreamError
from millstream.event import Event
from millstream.log import GroupStatus
from millstream.log.sqlite import SqliteLog


class Record:
    """`read` brings it up to date."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log
        self._events: dict[str, list[Event]] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._groups: dict[str, GroupStatus] = {}

    async def read(self) -> None:
        """Read what has come since."""
        found: list[Event] = []
        for (stream, partition), end in list(self._log.ends().items()):
            self._events.setdefault(stream, [])
            while (offset := self._next.get((stream, partition), 0)) < end:
                batch = await self._log.read(stream, partition, offset)
                self._next[stream, partition] = batch.next_offset
                found += batch
        for event in sorted(found, key=_place):
            self._events[event.stream or ""].append(event)
        self._groups = {group.name: group for group in await self._log.groups() if not group.name.startswith("$")}

    def events(self, stream: str) -> list[Event]:
        """Those of a stream, in the order in which they came. `UnknownStreamError`."""
        if stream not in self._events:
            raise UnknownStreamError(f"no stream {stream!r}; the app has {', '.join(sorted(self._events))}")
        return list(self._events[stream])

    def group(self, name: str) -> GroupStatus:
        """A group by its name, or by the end of it that tells it from the others. `LogError` if that is not one."""
        found = [group for group in self._groups.values() if f".{group.name}".endswith(f".{name}")]
        exact = [group for group in found if group.name == name]
        if len(exact or found) != 1:
            what = "no group" if not found else "several groups"
            raise LogError(f"{what} {name!r}; the app has {', '.join(sorted(self._groups)) or 'none'}")
        return (exact or found)[0]


def _place(event: Event) -> tuple[int, int, int]:
    """Events that came between two reads: by their time; those of one instant by partition."""
    assert event.time is not None  # it was committed
    return to_micros(event.time), event.partition, event.offset
