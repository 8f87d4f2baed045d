"""The streams as this process knows them: made, dropped, followed, watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from millstream.errors import LogClosedError, LogError
from millstream.log.contract import StreamSpec
from millstream.log.kafka.admin import Admin
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.catalog import Catalog, Stream
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.names import Names
from millstream.log.kafka.reader import Reader
from millstream.log.kafka.streams import Streams


class Directory:
    """Over the catalog and the topics. `changed` is called from the event loop after every change, with the topics that
    are the same as before; `answered` with why the brokers do not answer, or None."""

    def __init__(
        self,
        cluster: Cluster,
        names: Names,
        admin: tuple[Admin, Calls],
        reader: tuple[Reader, Calls],
        changed: Callable[[set[str]], None],
        answered: Callable[[str | None], None],
    ) -> None:
        self._names = names
        self._admin_calls = admin[1]
        self._reader, self._reader_calls = reader
        self._changed = changed
        self._catalog = Catalog(cluster, names.catalog, self._streams_changed, answered)
        self._streams = Streams(cluster, names, admin[0])
        self._seen: Mapping[str, Stream] = {}
        self._watchers: list[Callable[[Mapping[str, StreamSpec]], None]] = []
        self.is_closed = False
        """Nothing is answered any more."""

    async def close(self) -> None:
        """Follow no more."""
        self.is_closed = True
        await self._catalog.close()
        await self._admin_calls.run(self._streams.close)

    @property
    def known(self) -> Mapping[str, Stream]:
        """The streams, as far as this process was told."""
        return self._catalog.streams

    @property
    def specs(self) -> Mapping[str, StreamSpec]:
        """The same as they are declared."""
        return self._catalog.specs

    async def create(self, spec: StreamSpec) -> None:
        """See the contract of the log."""
        await self.sync()
        end = await self._admin_calls.run(self._streams.create, spec, dict(self._catalog.streams))
        if end is not None:
            await self._catalog.reach(end)

    async def drop(self, name: str) -> None:
        """See the contract of the log."""
        await self.sync()
        self._catalog.stream(name)  # raises if there is none
        end = await self._admin_calls.run(self._streams.drop, name)
        await self._catalog.reach(end)

    def watch(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        """See the contract of the log."""
        self._watchers.append(changed)
        asyncio.get_running_loop().call_soon(changed, self._catalog.specs)

    async def stream(self, name: str) -> Stream:
        """A stream as it is now. `UnknownStreamError`."""
        self._check()
        if name not in self._catalog.streams:
            await self.sync()
        return self._catalog.stream(name)

    async def topic(self, stream: str, partition: int) -> str:
        """The topic of a stream that has such a partition."""
        found = await self.stream(stream)
        if not 0 <= partition < found.spec.partitions:
            raise LogError(
                f"stream {stream!r} has the partitions 0 to {found.spec.partitions - 1}; there is no {partition}"
            )
        return self._names.topic(stream)

    async def make_state(self, group: str, count: int) -> None:
        """Make the topic of a group's state, with a partition for each number."""
        await self._admin_calls.run(self._streams.make_state, group, count)

    async def sync(self) -> None:
        """Return when all changes of the streams until now are known."""
        self._check()
        _, end = await self._reader_calls.run(self._reader.range, self._names.catalog, 0)
        await self._catalog.reach(end)

    def _streams_changed(self) -> None:
        same = {name for name, stream in self._catalog.streams.items() if stream == self._seen.get(name)}
        self._seen = self._catalog.streams
        for changed in self._watchers:
            changed(self._catalog.specs)
        self._changed({self._names.topic(name) for name in same})

    def _check(self) -> None:
        if self.is_closed:
            raise LogClosedError("the log is closed")
