"""Looks at groups and streams, in a thread with clients of its own: they may take long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from millstream.log.kafka.accounts import Place, View
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.names import Names
from millstream.log.kafka.reader import Reader
from millstream.log.kafka.scan import Scan

T = TypeVar("T")


class Looking:
    """Connects with the first look, and remembers what the looks have counted."""

    def __init__(self, cluster: Cluster, names: Names) -> None:
        self._cluster = cluster
        self._names = names
        self._calls = Calls("kafka-looking")
        self._clients: tuple[Admin, Reader] | None = None
        self._scans: dict[Place, Scan] = {}
        self._gaps: dict[tuple[str, int, int, int], int] = {}

    async def look(self, look: Callable[[View], T], streams: Mapping[str, Stream]) -> T:
        """What `look` sees of these streams, which are all there are. `LogUnavailableError`."""
        return await self._calls.run(self._look, look, streams)

    async def close(self) -> None:
        """Look no more. Idempotent."""
        await self._calls.close(self._close)

    def _look(self, look: Callable[[View], T], streams: Mapping[str, Stream]) -> T:
        if self._clients is None:
            self._clients = Admin(self._cluster), Reader(self._cluster)
        admin, reader = self._clients
        ids = {stream.id for stream in streams.values()}
        self._scans = {place: scan for place, scan in self._scans.items() if place[0] in ids}
        chunks = partial(read_chunks, admin, reader, self._names)
        return look(View(admin, streams, self._names, reader.until, chunks, self._scans, self._gaps))

    def _close(self) -> None:
        if self._clients is not None:
            self._clients[1].close()


def read_chunks(admin: Admin, reader: Reader, names: Names, group: str, number: int) -> dict[str, bytes]:
    """The state chunks of a group's partition number, those of Millstream's own too. Blocks."""
    topic = names.state(group)
    # The end is also that of transactions that have no outcome yet: they are waited for.
    ends = admin.ends([(topic, number)], committed=False)
    chunks: dict[str, bytes] = {}
    if (topic, number) not in ends:  # no such group
        return chunks
    for message in reader.everything(topic, number, ends[topic, number]):
        name, chunk = (message.key() or b"").decode(), message.value()
        if chunk is None:
            chunks.pop(name, None)
        else:
            chunks[name] = chunk
    return chunks
