"""A step's records cut at intervals of the log's time, so that what happens in between happens at the same place of the
log however it is cut into steps: keys are forgotten at midnights (`midnight.py`), early results come at marks
(`early.py`).

A record's time is that of its commit. Intervals are counted since 1970, and do not go back: a record whose time does is
of the interval of the record before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine.keys import Ints
from millstream.engine.step import Rejected, Step
from millstream.event import Batch


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of a batch: the batch's number in the step, and the place of the first event among the batch's."""

    number: int
    first: int
    batch: Batch


def passes(batches: Sequence[Batch], intervals: dict[int, int], length: Micros) -> bool:
    """Whether an interval ends within or before some batches. `intervals` are those of each partition's last records; a
    partition that is not there begins with its first record."""
    found = False
    for batch in batches:
        its = [tick.time for tick in batch.ticks]
        if len(batch):
            times = batch.times
            its += [int(times.min()), int(times.max())]
        if its:
            begin = intervals.setdefault(batch.partition, min(its) // length)
            found |= max(its) // length > begin
    return found


def cut(batches: Sequence[Batch], intervals: Mapping[int, int], length: Micros) -> list[tuple[int, list[Piece]]]:
    """The batches, interval by interval: its number, and what of each batch is in it. `intervals` as in `passes`."""
    pieces: dict[int, list[Piece]] = {}
    for number, batch in enumerate(batches):
        of_events, of_ticks = _intervals_of(batch, intervals.get(batch.partition, 0), length)
        for interval in np.unique(np.append(of_events, of_ticks)).tolist():
            first, end = np.searchsorted(of_events, [interval, interval + 1]).tolist()
            ticks = tuple(tick for tick, its in zip(batch.ticks, of_ticks.tolist(), strict=True) if its == interval)
            piece = replace(batch, events=batch.events.slice(first, end - first), ticks=ticks)
            pieces.setdefault(interval, []).append(Piece(number, first, piece))
    return sorted(pieces.items())


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


def _intervals_of(batch: Batch, before: int, length: Micros) -> tuple[Ints, Ints]:
    """The interval of each event and of each tick of a batch; `before` is that of the record before."""
    offsets = batch.events.column("offset").to_numpy()
    ticks = np.array([(tick.offset, tick.time) for tick in batch.ticks], np.int64).reshape(-1, 2)
    times = np.append(batch.times, ticks[:, 1])
    is_event = np.arange(len(times)) < len(offsets)
    order = np.lexsort((is_event, np.append(offsets, ticks[:, 0])))  # a tick stands before the event of its offset
    intervals = np.empty(len(times), np.int64)
    intervals[order] = np.maximum(np.maximum.accumulate(times[order] // length), before)
    return intervals[: len(offsets)], intervals[len(offsets) :]
