"""The registry as a table, which queries join their events with; and when it has changed.

Of the documents the database takes only what is asked for, and it stays the JSON that it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from sqlalchemy import Connection, select

from millstream.devices.fields import json_of
from millstream.devices.lifecycle import Happened, What
from millstream.devices.query import translate
from millstream.devices.registry import Registry
from millstream.devices.tables import devices, twins
from millstream.errors import ReferenceDataError
from millstream.reference.registry import Found, Wish
from millstream.reference.source import MOST_BYTES

_ROWS = 10_000  # that are taken at a time
_OF_DEVICES = (What.CREATED, What.UPDATED, What.DELETED)  # which has the tags
_OF_SIDES = {"desired": What.DESIRED, "reported": What.REPORTED}


class DeviceTables:
    """See `Tables`. Changes are counted from when it was made."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._changes: Counter[What] = Counter()
        self._changed = asyncio.Event()
        registry.watch(self._happened)

    async def table(self, wish: Wish) -> Found:
        """See `Tables`."""
        seen = await self.news(wish)
        return Found(seen, await self.read(wish))

    async def news(self, wish: Wish) -> int:
        """How many changes of what is asked for there have been, when it is not what has been seen."""
        while (seen := self._count(wish)) == wish.seen:
            await self._changed.wait()
        return seen

    async def read(self, wish: Wish) -> pa.Table:
        """What is there now. `ReferenceDataError`, `RegistryError`."""
        return await self._registry.database.read(lambda connection: self._read(connection, wish))

    def _count(self, wish: Wish) -> int:
        """The changes so far of what is asked for."""
        asked = {column.partition(".")[0] for column in wish.columns}
        kinds = [what for side, what in _OF_SIDES.items() if side in asked or side in (wish.query or "")]
        return sum(self._changes[what] for what in (*_OF_DEVICES, *kinds))

    def _happened(self, those: Sequence[Happened]) -> None:
        self._changes.update(each.what for each in those)
        self._changed.set()
        self._changed = asyncio.Event()

    def _read(self, connection: Connection, wish: Wish) -> pa.Table:
        names = ["id", *wish.columns]
        dialect = self._registry.database.dialect
        its = [json_of(name.split("."), dialect).label(f"c{number}") for number, name in enumerate(names)]
        query = select(*its).where(devices.c.module == "").order_by(devices.c.device)
        query = query.outerjoin(twins, (twins.c.device == devices.c.device) & (twins.c.module == devices.c.module))
        if wish.query is not None:
            query = query.where(translate(wish.query, dialect))
        schema = pa.schema([(name, pa.string()) for name in names])
        batches, size = [], 0
        for rows in connection.execute(query.execution_options(yield_per=_ROWS)).partitions():
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
            size += batches[-1].nbytes
            if size > MOST_BYTES:
                raise ReferenceDataError(
                    f"the registry is too large to join with: there may be {MOST_BYTES >> 20} MB of the columns that "
                    "queries use; say with select= which devices are meant"
                )
        return pa.Table.from_batches(batches, schema)
