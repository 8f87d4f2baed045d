"""A log to which all columns are dear that its members do not look at, around the real one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from millstream.event import BATCH_SCHEMA, Batch
from millstream.log import Group, Log, Poll

_ALWAYS = {"offset", "time"}


class SparseLog:
    """See `millstream.log.Log`. Events that are sent to one group again are not for it."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def join(
        self, group: str, streams: Sequence[str], *, columns: Collection[str] | None = None, **more: Any
    ) -> Group:
        joined = await self._log.join(group, streams, columns=columns, **more)
        return joined if columns is None else _SparseGroup(joined, _ALWAYS.union(columns))


class _SparseGroup:
    def __init__(self, group: Group, columns: Collection[str]) -> None:
        self._group = group
        self._columns = columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    async def poll(self, limit_bytes: int, timeout: float | None = None, pause: bool = False) -> Poll:
        poll = await self._group.poll(limit_bytes, timeout, pause)
        return replace(poll, batches=[_sparse(batch, self._columns) for batch in poll.batches])


def _sparse(batch: Batch, columns: Collection[str]) -> Batch:
    """A batch with some of its columns."""
    arrays = [
        batch.events.column(field.name) if field.name in columns else pa.nulls(len(batch), field.type)
        for field in BATCH_SCHEMA
    ]
    return replace(batch, events=pa.RecordBatch.from_arrays(arrays, schema=BATCH_SCHEMA), is_sparse=True)
