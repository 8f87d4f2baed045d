"""`millstream state --reset`: a key begins anew in what a query or a handler keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from millstream.cli import output
from millstream.cli.place import open_log
from millstream.errors import SettingsError

if TYPE_CHECKING:
    from millstream.settings import Settings


class Reader(NamedTuple):
    """A group, the stream that it reads, and the filter of what it reads there (None: all)."""

    group: str
    stream: str
    topics: str | None


async def reset(settings: Settings, reader: Reader, key: str) -> None:
    """Append a reset, and tell where. `SettingsError`: the group has not read the stream yet."""
    from millstream.ledger.deadletters import Operator
    from millstream.ledger.resets import reset_event
    from millstream.log import partition_of

    async with open_log(settings) as log, Operator.at_work(log) as operator:
        spec = (await log.streams())[reader.stream]
        partition = partition_of(key, spec.partitions)
        place = (reader.stream, partition)
        if not any(one.name == reader.group and place in one.positions for one in await log.groups()):
            raise SettingsError(f"group {reader.group!r} has not read stream {reader.stream!r} yet: it keeps nothing")
        event = reset_event(reader.group, reader.stream, partition, key, reader.topics)
        (position,) = await operator.reset([(reader.stream, partition, event)])
        output.tell(f"the key {key!r} begins anew at {position}, when {reader.group} comes to it")
