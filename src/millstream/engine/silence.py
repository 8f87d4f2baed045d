"""Ticks as the log would have appended them, for a query that was not there to ask for them.

A live query asks for a tick at the first whole second at which a silent key's window falls due. What runs over history
cannot ask any more, so it gets one at every whole second that passes between two records, as long after a record as
anything of it may fall due: where a live query would have had none, there is nothing for it to close.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from millstream.clock import SECOND, Micros
from millstream.event import Batch, Tick

LONG: Micros = 100 * 366 * 86_400 * SECOND
"""After so long a silence every window is closed."""


def with_ticks(batch: Batch, after: Micros | None, until: Micros | None, reach: Micros) -> Batch:
    """A batch with these ticks in the place of its own.

    `after` is the time of the record before the batch, None if there is none. With `until`, the end of history, they go
    on behind the batch's last record. No tick is later than `reach` after the record before it."""
    if after is None and not len(batch):
        return replace(batch, ticks=())
    times = batch.times
    befores = times if after is None else np.concatenate([[after], times])
    nexts = times[1:] if after is None else times
    if until is None:
        befores = befores[: len(nexts)]
    else:
        nexts = np.append(nexts, until)
    first = befores // SECOND + 1
    count = np.maximum(np.minimum(nexts, befores + reach) // SECOND - first + 1, 0)
    gap = np.repeat(np.arange(len(count)), count)
    seconds = first[gap] + np.arange(len(gap)) - np.repeat(np.cumsum(count) - count, count)
    offsets = np.append(batch.events.column("offset").to_numpy(), batch.next_offset)
    at = offsets[gap + (1 if after is None else 0)]
    ticks = tuple(Tick(offset, time) for offset, time in zip(at.tolist(), (seconds * SECOND).tolist(), strict=True))
    return replace(batch, ticks=ticks)
