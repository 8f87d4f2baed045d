"""Midnights of the log, at which keys are forgotten of which nothing is left to know.

What is kept of a key that has fallen silent, its watermark, serves for one thing: to tell that an event of it is late.
A day is long enough for that. So when the log's own time passes midnight (UTC; a record's time is that of its commit),
a key goes that has no open window and of which nothing has arrived for a day. If it comes back, it is new.

The records before and after a midnight are never in one step, so which keys go follows from the order of the log, and
not from how it was cut into steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from millstream.clock import SECOND, Micros
from millstream.engine.intervals import cut, joined, passes
from millstream.engine.step import Step
from millstream.event import Batch

DAY: Micros = 86_400 * SECOND


def by_day(
    batches: Sequence[Batch],
    days: dict[int, int],
    forget_silent: Callable[[int, int], None],
    step: Callable[[Sequence[Batch]], Step],
) -> Step:
    """Step through some batches, where a midnight passes day by day: before each day's records `forget_silent` is told
    their partitions and the day. `days` are those of each partition's last records, see `passes`."""
    if not passes(batches, days, DAY):
        return step(batches)
    steps = []
    for day, pieces in cut(batches, days, DAY):
        for piece in pieces:
            forget_silent(piece.batch.partition, day)
        steps.append((step([piece.batch for piece in pieces]), pieces))
    return joined(steps)
