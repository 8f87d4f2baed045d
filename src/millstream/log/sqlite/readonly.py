"""The log without its server: for looking at what is there, whether or not a server runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from millstream.clock import Clock, Micros, SystemClock
from millstream.errors import LogUnavailableError
from millstream.event import Batch
from millstream.log.contract import (
    LATEST,
    Accounts,
    Bounds,
    Commits,
    Group,
    GroupStatus,
    Start,
    StreamSpec,
    Transaction,
)
from millstream.log.sqlite.place import Cursor, Place
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.reads import FileReads, read_batch
from millstream.log.sqlite.schema import FILE_NAME
from millstream.topic import Filter

_LOOK_SECONDS = 0.25  # nobody is there who could wake us


class ReadOnlyLog:
    """See `millstream.log.contract.Log`. Whatever would change the log raises `LogUnavailableError`; streams are not
    watched; groups are shown without their members."""

    commits = Commits.DISK

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._reads = FileReads(path)

    @classmethod
    async def open(cls, folder: Path, clock: Clock | None = None) -> ReadOnlyLog:
        """Open the log in a data folder. `DataFolderError` if there is none, or one that cannot be read."""
        log = cls(folder / FILE_NAME, clock or SystemClock())
        try:
            await log.streams()
        except BaseException:
            await log.close()
            raise
        return log

    async def close(self) -> None:
        await self._reads.close()

    async def streams(self) -> Mapping[str, StreamSpec]:
        catalog = await self._reads.run(lambda reader: reader.catalog())
        return catalog.specs

    async def read(
        self, stream: str, partition: int, offset: int, *, limit_bytes: int = 1 << 20, wait: float | None = 0.0
    ) -> Batch:
        cursor = Cursor(stream, partition, offset)
        return await read_batch(self._reads, self._beyond, self._clock, cursor, limit_bytes, wait)

    async def bounds(self, stream: str, partition: int) -> Bounds:
        return await self._reads.run(lambda reader: reader.bounds(stream, partition))

    async def offset_at(self, stream: str, partition: int, time: Micros) -> int:
        return await self._reads.run(lambda reader: reader.offset_at(stream, partition, time))

    async def state(self, group: str, partition: int) -> Mapping[str, bytes]:
        return await self._reads.run(lambda reader: reader.state(group, partition))

    async def groups(self) -> Sequence[GroupStatus]:
        return await self._reads.run(lambda reader: reader.groups())

    async def accounts(self) -> Accounts:
        return await self._reads.run(Reader.accounts)

    def watch_streams(self, changed: Callable[[Mapping[str, StreamSpec]], None]) -> None:
        self._refuse()

    async def create(self, spec: StreamSpec) -> None:
        self._refuse()

    async def drop(self, name: str) -> None:
        self._refuse()

    async def join(
        self,
        group: str,
        streams: Sequence[str],
        *,
        start: Start = LATEST,
        topics: Filter | None = None,
        columns: Collection[str] | None = None,
    ) -> Group:
        self._refuse()

    def transaction(self) -> Transaction:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise LogUnavailableError(
            f"no server runs on the data folder {str(self._path.parent)!r}, and only a server may change the log"
        )

    async def _beyond(self, offsets: Mapping[Place, int], timeout: float | None) -> None:
        """Wait for any commit of another process, at most `timeout` seconds."""
        deadline = None if timeout is None else self._clock.monotonic() + timeout
        before = await self._reads.run(lambda reader: reader.data_version())
        while deadline is None or self._clock.monotonic() < deadline:
            await self._clock.sleep(_LOOK_SECONDS)
            if await self._reads.run(lambda reader: reader.data_version()) != before:
                return
