"""Midnights of the log, at which keys are forgotten of which nothing is left to know.

What is kept of a key that has fallen silent, its watermark, serves for one thing: to tell that an event of it is late.
A day is long enough for that. So when the log's own time passes midnight (UTC; a record's time is that of its commit),
a key goes that has no open window and of which nothing has arrived for a day. If it comes back, it is new.

The records before and after a midnight are never in one step, so which keys go follows from the order of the log, and
not from how it was cut into steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine.keys import Ints
from millstream.engine.step import Rejected, Step
from millstream.event import Batch

DAY: Micros = 86_400 * SECOND


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of a batch: the batch's number in the step, and the place of the first event among the batch's."""

    number: int
    first: int
    batch: Batch


def pass_(batches: Sequence[Batch], days: dict[int, int], day: Micros = DAY) -> bool:
    """Whether a midnight passes within or before some batches. `days` are those of each partition's records before, by
    their number since 1970; a partition that is not there begins with its first record. `day` is how long they are."""
    passes = False
    for batch in batches:
        its = [tick.time for tick in batch.ticks]
        if len(batch):
            times = batch.times
            its += [int(times.min()), int(times.max())]
        if its:
            begin = days.setdefault(batch.partition, min(its) // day)
            passes |= max(its) // day > begin
    return passes


def _days_of(batch: Batch, before: int, day: Micros) -> tuple[Ints, Ints]:
    """The day of each event and of each tick of a batch. Days do not go back; `before` is that of the record before."""
    offsets = batch.events.column("offset").to_numpy()
    ticks = np.array([(tick.offset, tick.time) for tick in batch.ticks], np.int64).reshape(-1, 2)
    times = np.append(batch.times, ticks[:, 1])
    is_event = np.arange(len(times)) < len(offsets)
    order = np.lexsort((is_event, np.append(offsets, ticks[:, 0])))  # a tick stands before the event of its offset
    days = np.empty(len(times), np.int64)
    days[order] = np.maximum(np.maximum.accumulate(times[order] // day), before)
    return days[: len(offsets)], days[len(offsets) :]


def cut(batches: Sequence[Batch], before: Mapping[int, int], length: Micros = DAY) -> list[tuple[int, list[Piece]]]:
    """The batches, day by day: the day, and what of each batch is in it. `before` are the days of the partitions'
    records before, `length` is how long a day is."""
    pieces: dict[int, list[Piece]] = {}
    for number, batch in enumerate(batches):
        of_events, of_ticks = _days_of(batch, before.get(batch.partition, 0), length)
        for day in np.unique(np.append(of_events, of_ticks)).tolist():
            first, end = np.searchsorted(of_events, [day, day + 1]).tolist()
            ticks = tuple(tick for tick, its in zip(batch.ticks, of_ticks.tolist(), strict=True) if its == day)
            piece = replace(batch, events=batch.events.slice(first, end - first), ticks=ticks)
            pieces.setdefault(day, []).append(Piece(number, first, piece))
    return sorted(pieces.items())


def by_day(
    batches: Sequence[Batch],
    days: dict[int, int],
    forget_silent: Callable[[int, int], None],
    step: Callable[[Sequence[Batch]], Step],
) -> Step:
    """Step through some batches, where a midnight passes day by day: before each day's records `forget_silent` is told
    their partitions and the day. `days` are those of `pass_`."""
    if not pass_(batches, days):
        return step(batches)
    steps = []
    for day, pieces in cut(batches, days):
        for piece in pieces:
            forget_silent(piece.batch.partition, day)
        steps.append((step([piece.batch for piece in pieces]), pieces))
    return joined(steps)


def joined(steps: Sequence[tuple[Step, Sequence[Piece]]]) -> Step:
    """Steps that follow each other as one; with each the pieces that it is of."""
    save: dict[int, dict[str, bytes]] = {}
    drop: dict[int, list[str]] = {}
    due: dict[tuple[str, int], Micros | None] = {}
    counts, notes = dict[str, int](), dict[str, int]()
    rejected: list[Rejected] = []
    for step, pieces in steps:
        for partition, names in step.drop.items():
            fresh = save.get(partition, {})
            drop.setdefault(partition, []).extend(name for name in names if fresh.pop(name, None) is None)
        for partition, chunks in step.save.items():
            save.setdefault(partition, {}).update(chunks)
        due.update(step.due)
        for whole, its in ((counts, step.counts), (notes, step.notes)):
            for name, count in its.items():
                whole[name] = whole.get(name, 0) + count
        for one in step.rejected:
            piece = pieces[one.batch]
            rejected.append(Rejected(piece.number, piece.first + one.row, one.reason))
    return Step(
        outputs=_concat([step.outputs for step, _ in steps]),
        late=_concat([step.late for step, _ in steps]),
        rejected=rejected,
        save=save,
        drop=drop,
        due=due,
        counts=counts,
        notes=notes,
        watermark=steps[-1][0].watermark,
    )


def _concat(parts: Sequence[pa.RecordBatch | None]) -> pa.RecordBatch | None:
    some = [part for part in parts if part is not None and part.num_rows]
    return pa.concat_batches(some) if some else None
