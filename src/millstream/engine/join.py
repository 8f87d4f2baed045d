"""A query over pairs of events: a pure step from batches to results, over events that wait for others.

Both sides are events of the same key, of one stream or of two with the same number of partitions, chosen and changed by
a plan of their own. A pair is given out when the later one is read; a left event that nothing came for, where the join
is optional, when nothing can come for it any more, as the clocks of the right side's stream tell (`clocks.py`). Which
pairs there are depends on the order of each stream and on the times of arrival, and not on how far which stream is
read. What is kept is bounded by the bound of the join, and by how far one stream is read ahead of the other.

A step goes through all its batches at once:

1. decode what each side needs (`brought.py`), with what its events look back to; what does not decode is rejected;
2. move the clocks of each stream, which tells which events are late;
3. find the pairs in which one event is new (`partners.py`), and keep the new events;
4. find the events that wait in vain (`waiting.py`);
5. make results of pairs, and of left events that stay alone, for each key in the order of the records that brought
   them about;
6. save what changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millstream.clock import SECOND, Micros
from millstream.engine.brought import Brought, New, Streams
from millstream.engine.clocks import Came, Waits
from millstream.engine.duck import Duck
from millstream.engine.join_state import JoinState
from millstream.engine.keys import FOREVER, NEVER, Ints
from millstream.engine.lookup import Version
from millstream.engine.outputs import late_events, result_events
from millstream.engine.partners import Pairs, Partners
from millstream.engine.plan import Join, WindowPlan
from millstream.engine.rejection import rejected_events
from millstream.engine.saved import Saved
from millstream.engine.scratch import Room
from millstream.engine.step import Dues, Rejected, Step
from millstream.engine.waiting import OWN, Waiting
from millstream.event import Batch


@dataclass(frozen=True, slots=True)
class _Alone:
    """Left events that stay alone, their places in the step (-1: they waited), and those of the records by which
    nothing could come for them any more."""

    events: pa.Table
    rows: Ints
    closing: Ints


class JoinQuery:
    """A processor that runs a plan with a join. Large steps are decoded in `threads` (None: one for each usable core).
    Events that wait take `room` (None: memory, as much as they need).

    A step changes the state at once. When its commit fails, `restore` brings back what is committed.
    """

    def __init__(self, plan: WindowPlan, join: Join, *, threads: int | None = None, room: Room | None = None) -> None:
        self.plan = plan
        self._join = join
        waits = Waits(plan.grace, join.reach, plan.idle)
        self._silence = waits.silence
        duck = Duck()
        self._streams = Streams(duck, plan, join, waits, threads)
        self._clocks = self._streams.clocks
        left, right = self._streams.values
        self._partners = Partners(duck, plan, join, (left, right), waits.silence)
        duck.lock()
        room = room or Room()
        sides = (Waiting(left, join.high, self._clocks[-1], room), Waiting(right, -join.low, self._clocks[0], room))
        self._state = JoinState(plan.name, sides, self._clocks, _fingerprint(join, (left, right)))
        self._dues = tuple(map(Dues, plan.streams))

    def refer(self, versions: Mapping[str, Sequence[Version]]) -> None:
        """See `Processor.refer`."""
        self._streams.refer(versions)

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """See `Processor.restore`. `QueryError`: the chunks were saved by another query of this name."""
        for dues in self._dues:
            dues.forget(partition)
        self._state.restore(partition, self._streams.restore(partition, chunks))

    def forget(self, partition: int) -> None:
        """See `Processor.forget`."""
        for dues in self._dues:
            dues.forget(partition)
        self._state.forget(partition)
        self._streams.forget(partition)

    def reset(self, partition: int, key: str) -> Step:
        """See `Processor.reset`. Of two streams it lets go what has come by then of either."""
        saved = self._state.reset(partition, key) + self._streams.reset(partition, key)
        return Step(save=saved.save, drop=saved.drop, due=self._due({partition}))

    def kept(self, partition: int) -> int:
        """See `Processor.kept`."""
        return self._streams.kept(partition)

    def waiting(self, partition: int) -> pa.RecordBatch | None:
        """The events that wait in a partition, as they are kept: which side they are of, their time and values."""
        parts = []
        for number, waiting in enumerate(self._state.sides):
            events = waiting.take(waiting.of(partition, self._state.keys.partition))
            if len(events):
                side = self._join.sides[number]
                place = pc.binary_join_element_wise(
                    f"{self.plan.name}:{side.stream}:{partition}", _place(side, events), ":"
                )
                data = self._partners.show(number, events)
                names = self._names(events.column("slot").to_numpy())
                parts.append(pa.table({"key": names, "id": place, "data": data}))
        return result_events(self.plan, parts)

    def step(self, batches: Sequence[Batch]) -> Step:
        """See `Processor.step`. Counts: `processed`, `filtered`, `late`, `rejected`; notes: `clamped`, `results`."""
        if not batches:
            return Step()
        waiting = self._state.sides
        brought = [self._streams.read(number, batches, self._state) for number in range(len(self._clocks))]
        of_side = (brought[0], brought[-1])
        new = [self._streams.new(number, its, waiting[number]) for number, its in enumerate(of_side)]
        width = self._join.high - self._join.low
        slots = len(self._state.keys)
        near = [one.near(others.events, width, slots) for one, others in zip(waiting, reversed(new), strict=True)]
        begin = len(waiting[0])
        for one, brings in zip(waiting, new, strict=True):
            one.append(brings.events)
        pairs = self._pairs(near, new)
        has_met = np.zeros(len(waiting[0]), np.bool_)
        has_met[pairs.left] = True
        joined = waiting[0].meet(np.flatnonzero(has_met))
        ended = [one.in_vain(self._state.keys.partition) for one in waiting]
        lonely = ended[0][waiting[0].alone[ended[0]]]
        alone = self._alone(lonely, new[0], of_side[1].came)
        outputs = self._results(pairs, alone)
        added = [_without(*each) for each in zip(waiting, new, ended, strict=True)]
        joined = waiting[0].own(np.concatenate([its[its < begin] for its in (joined, lonely)]))
        keys = np.concatenate([one.slot[its] for one, its in zip(waiting, ended, strict=True)])
        for one, its in zip(waiting, ended, strict=True):
            one.close(its)
        has_moved = np.zeros(len(self._state.keys), np.bool_)
        for stream in brought:
            has_moved[stream.came.slot] = True
        moved = np.flatnonzero(has_moved)
        ticked = np.array([batch.partition for batch in batches if batch.ticks], np.int64)
        saved = self._state.save(moved, (added[0], added[1]), joined, keys, ticked)
        for stream in brought:
            saved = saved + stream.looked
        return self._step(batches, brought, outputs, saved)

    def _pairs(self, near: Sequence[Ints], new: Sequence[New]) -> Pairs:
        """The pairs, by the places of events among those that wait: of those that have come now, which are the last,
        with each other and with those that are `near` them. A pair is looked for in one of the pieces."""
        fresh = [np.arange(len(one) - len(its.rows), len(one)) for one, its in zip(self._state.sides, new, strict=True)]
        left, right = (one.pieces(places) for one, places in zip(self._state.sides, near, strict=True))
        pieces = [(np.append(left[0], fresh[0]), np.append(right[0], fresh[1]))]
        pieces += [*((its, fresh[1]) for its in left[1:]), *((fresh[0], its) for its in right[1:])]
        found = [self._pairs_in(piece, new) for piece in pieces]
        return (
            found[0]
            if len(found) == 1
            else Pairs(
                *(np.concatenate([getattr(pairs, name) for pairs in found]) for name in ("left", "right", "row"))
            )
        )

    def _pairs_in(self, places: Sequence[Ints], new: Sequence[New]) -> Pairs:
        left, right = (one.take(its) for one, its in zip(self._state.sides, places, strict=True))
        rows = [_rows(one, its, came.rows) for one, its, came in zip(self._state.sides, places, new, strict=True)]
        pairs = self._partners.find(left, right, (rows[0], rows[1]))
        return Pairs(places[0][pairs.left], places[1][pairs.right], pairs.row)

    def _alone(self, lonely: Ints, new: New, came: Came) -> _Alone:
        """The left events at some places."""
        waiting = self._state.sides[0]
        silent = waiting.arrival[lonely] + self._silence
        closing = came.first_closed(waiting.slot[lonely], waiting.end[lonely], silent)
        return _Alone(waiting.take(lonely), _rows(waiting, lonely, new.rows), closing)

    def _results(self, pairs: Pairs, alone: _Alone) -> pa.RecordBatch | None:
        """Results, in the order of the records that brought them about: of pairs the later event; of what stays alone
        the record behind which its time was closed, or itself if that was closed already."""
        count = len(pairs.row)
        if not count + len(alone.rows):
            return None
        left, right = self._state.sides
        ones = pa.concat_tables([left.take(pairs.left), alone.events])
        slot, time, offset, element = (ones.column(n).to_numpy() for n in ("slot", "time", "offset", "element"))
        nobody = pa.table([pa.nulls(len(alone.rows), field.type) for field in right.schema], schema=right.schema)
        others = pa.concat_tables([right.take(pairs.right), nobody])
        its, part = (others.column(name).fill_null(-1).to_numpy() for name in ("offset", "element"))
        row = np.concatenate([pairs.row, np.maximum(alone.closing, alone.rows)])
        at_it = np.append(np.ones(count, np.bool_), alone.closing <= alone.rows)  # what an event closes comes first
        at = np.maximum(time, others.column("time").fill_null(NEVER).to_numpy())
        at[count:] += self._join.high
        end = np.where(at_it, 0, at)  # what ends first is closed first
        order = np.lexsort((part, its, element, offset, end, at_it, row))
        ones, others = ones.take(pa.array(order)), others.take(pa.array(order))
        data, kept = self._partners.results(ones, others, at[order])
        columns = {"key": self._names(slot[order]), "id": self._ids(ones, others), "data": data}
        return result_events(self.plan, [pa.table(columns).filter(kept)])

    def _step(
        self, batches: Sequence[Batch], brought: Sequence[Brought], outputs: pa.RecordBatch | None, saved: Saved
    ) -> Step:
        """What all of it came to."""
        counts, clamped, newest = dict.fromkeys(("processed", "filtered", "late", "rejected"), 0), 0, FOREVER
        rejected, late = list[Rejected](), list[tuple[Ints, Ints]]()
        for stream, its, clocks in zip(self.plan.streams, brought, self._clocks, strict=True):
            side = next(side for side in self._join.sides if side.stream == stream)
            counts["processed"] += int((its.wanted & ~its.late).sum())
            counts["filtered"] += int((its.valid & ~its.wanted).sum())
            counts["late"] += int(its.late.sum())
            counts["rejected"] += int((~its.valid).sum())
            clamped += its.clamped
            rejected += rejected_events(batches, its.row[~its.valid], side.time)
            late.append((its.row[its.late], its.horizon[its.late]))
            newest = min(newest, clocks.newest)
        rows, ends = (np.concatenate(columns) for columns in zip(*late, strict=True))
        return Step(
            outputs=outputs,
            late=late_events(self.plan, batches, rows, ends),
            rejected=rejected,
            save=saved.save,
            drop=saved.drop,
            due=self._due({batch.partition for batch in batches}),
            counts=counts,
            notes={"clamped": clamped, "results": outputs.num_rows if outputs else 0},
            watermark=newest if newest > NEVER else None,
        )

    def _due(self, partitions: Collection[int]) -> dict[tuple[str, int], Micros | None]:
        """The first whole second, by stream and partition, at which an event waits no longer if nothing more comes."""
        found: dict[tuple[str, int], Micros | None] = {}
        partition = self._state.keys.partition
        for clocks, dues in zip(self._clocks, self._dues, strict=True):
            first = np.full(max(partitions) + 1, FOREVER, np.int64)
            for waiting in self._state.sides:
                if waiting.clocks is clocks:
                    mine = np.flatnonzero(waiting.open)
                    mine = mine[partition[waiting.slot[mine]] < len(first)]
                    slot = waiting.slot[mine]
                    np.minimum.at(first, partition[slot], clocks.ends(slot, waiting.arrival[mine]))
            seconds = {p: -(-int(first[p]) // SECOND) * SECOND if first[p] < FOREVER else None for p in partitions}
            found |= dues.changed(seconds)
        return found

    def _names(self, slot: Ints) -> pa.Array:
        distinct, place = np.unique(slot, return_inverse=True)
        names = pa.array([self._state.keys.names[one] for one in distinct.tolist()], pa.string())
        return names.take(pa.array(place))

    def _ids(self, ones: pa.Table, others: pa.Table) -> pa.Array:
        """The places of both events in the log, the second one empty where there is none."""
        left, right = self._join.sides
        partition = pa.array(self._state.keys.partition[ones.column("slot").to_numpy()]).cast(pa.string())
        places = (partition, _place(left, ones), pa.scalar(right.stream), _place(right, others).fill_null(""))
        return pc.binary_join_element_wise(f"{self.plan.name}:{left.stream}", *places, ":")


def _place(side: WindowPlan, events: pa.Table) -> pa.Array:
    """Where events of a side stand in their partition, and which of its rows each is, if an event has several."""
    offset, element = (events.column(n).combine_chunks().cast(pa.string()) for n in ("offset", "element"))
    return pc.binary_join_element_wise(offset, element, ".") if side.applies else offset


def _rows(waiting: Waiting, places: Ints, new: Ints) -> Ints:
    """The rows in the step of events at some places; -1: they waited. Those that have come now are the last, and have
    the rows `new`."""
    begin = len(waiting) - len(new)
    return np.where(places < begin, -1, np.append(new, -1)[np.maximum(places - begin, -1)])


def _without(waiting: Waiting, new: New, ended: Ints) -> pa.Table:
    """Of the events that have come now those that have not ended."""
    stays = np.ones(len(waiting), np.bool_)
    stays[ended] = False
    places = np.arange(len(waiting) - len(new.rows), len(waiting))
    return waiting.take(places[stays[places]])


def _fingerprint(join: Join, values: tuple[list[pa.Field], list[pa.Field]]) -> bytes:
    """What must be equal for a saved state to fit: what waiting events have, and how long they wait."""
    meaning = (
        [field.name for field in OWN],
        join.low,
        join.high,
        join.optional,
        [[(column.sql, column.type) for column in side.columns] for side in join.sides],
        [side.applies for side in join.sides],
        [[field.name for field in side] for side in values],
    )
    return hashlib.blake2b(repr(meaning).encode(), digest_size=8).digest()
