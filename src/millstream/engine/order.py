"""The order of a step's records: where ticks stand among the events, and whether the times go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from millstream.engine.keys import Ints
from millstream.engine.lateness import Ticks
from millstream.event import Batch


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
        _ascending(batch.times) and _ascending(np.array([tick.time for tick in batch.ticks], np.int64))
        for batch in batches
    )


def _ascending(times: Ints) -> bool:
    return bool((times[1:] >= times[:-1]).all())
