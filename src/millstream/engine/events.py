"""A step's events as arrays: whose they are, when they arrived and happened, which window each belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine.decode import Decoded
from millstream.engine.keys import Ints, Keys
from millstream.engine.lateness import Ticks
from millstream.event import Batch

AHEAD: Micros = 300 * SECOND
"""An event time further than this beyond its arrival is brought back to it: one wrong clock must not close the
windows of a key long before their time."""

_FIRST_TIME: Micros = -62_135_596_800 * SECOND  # 0001-01-01, the first that a timestamp of RFC 3339 can say

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Events:
    """The events of a step in the order of its batches; a *row* is an event's place there.

    `slot` is the event's key, -1 where the event is not `valid`; `time` its event time after clamping, `end` the end of
    its window, both without meaning where it is not valid; `kept` what `WHERE` says (None: there is none)."""

    arrival: Ints
    slot: Ints
    time: Ints
    end: Ints
    valid: Mask
    kept: Mask | None
    clamped: int

    def __len__(self) -> int:
        return len(self.slot)


def gather(batches: Sequence[Batch], decoded: Decoded, keys: Keys, size: Micros) -> Events:
    """Bring together what the decoder found and what the log tells of the same events."""
    arrival = np.concatenate([batch.events.column("time").cast(pa.int64()).to_numpy() for batch in batches])
    valid, time, clamped = decoded.valid, arrival, 0
    if decoded.time is not None:
        valid = valid & (decoded.time >= _FIRST_TIME)
        limit = arrival + AHEAD
        clamped = int(np.count_nonzero((decoded.time > limit) & valid))
        time = np.minimum(decoded.time, limit)
    slot = np.concatenate([_slots(batch, keys) for batch in batches])
    slot[~valid] = -1
    return Events(arrival, slot, time, -(-time // size) * size, valid, decoded.kept, clamped)


def _slots(batch: Batch, keys: Keys) -> Ints:
    encoded = batch.events.column("key").dictionary_encode()
    slots = keys.slots(batch.partition, encoded.dictionary.to_pylist())
    of_row: Ints = slots[encoded.indices.to_numpy()]
    return of_row


def place_ticks(batches: Sequence[Batch]) -> dict[int, Ticks]:
    """The ticks of each partition that has any, placed among the step's rows."""
    placed = {}
    start = 0
    for batch in batches:
        if batch.ticks:
            offsets = batch.events.column("offset").to_numpy()
            rows = start + np.searchsorted(offsets, [tick.offset for tick in batch.ticks])
            placed[batch.partition] = Ticks(rows, np.array([tick.time for tick in batch.ticks], np.int64))
        start += len(batch)
    return placed


def times_go_on(batches: Sequence[Batch]) -> bool:
    """Whether no arrival and no tick is before an earlier one of its partition."""
    return all(
        _ascending(batch.events.column("time").cast(pa.int64()).to_numpy())
        and _ascending(np.array([tick.time for tick in batch.ticks], np.int64))
        for batch in batches
    )


def _ascending(times: Ints) -> bool:
    return bool((times[1:] >= times[:-1]).all())
