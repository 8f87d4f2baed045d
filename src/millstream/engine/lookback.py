"""Looking back as a part of a step: a column of what each event finds is added to the step's inputs, and what is kept
for it is saved. The payloads are decoded twice, which only queries pay for that look back.

Lookbacks that agree in PARTITION BY and WHEN share a history (`history.py`). One that uses another, as in
`LAG(x) OVER (… WHEN LAG(y) OVER (…) > 3)`, is of a higher level, and finds the columns of the lower ones among the
inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from millstream.clock import Micros
from millstream.engine import chunks
from millstream.engine.careful import Careful
from millstream.engine.chunks import ChunkLog
from millstream.engine.duck import Duck, Source
from millstream.engine.history import Events, History
from millstream.engine.inputs import Inputs
from millstream.engine.keys import Ints, Slots, group_name, key_of
from millstream.engine.plan import Lookback, WindowPlan
from millstream.engine.saved import Saved
from millstream.engine.scan import lookback_text
from millstream.event import Batch


class Lookbacks:
    """Those of a plan. `schema` is that of the inputs with what it adds to them; `mark` tells the names of its chunks
    from those of others beside it."""

    def __init__(self, duck: Duck, plan: WindowPlan, inputs: Inputs, mark: str = "") -> None:
        self._plan = plan
        self._mark = f"back{mark}:"  # of its chunks' names, beside those of open windows
        schema, lookups = inputs.schema, inputs.references.source
        self._shared: list[_Shared] = []
        for numbers in _sharing(plan.lookbacks):
            its = [plan.lookbacks[number] for number in numbers]
            self._shared.append(_Shared(duck, plan, its, schema, lookups))
            schema = pa.schema([*schema, *self._shared[-1].fields])
        self.schema = schema
        self._histories: dict[int, list[History]] = {}
        self._chunks: dict[int, ChunkLog] = {}
        self._fingerprint = hashlib.blake2b(
            repr([each.meaning for each in self._shared]).encode(), digest_size=8
        ).digest()

    def restore(self, partition: int, saved: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Take a partition on with the chunks that were saved for it. Gives those that are of windows. `QueryError`:
        they are of another query."""
        self.forget(partition)
        mine = {name.removeprefix(self._mark): chunk for name, chunk in saved.items() if name.startswith(self._mark)}
        histories = self._of(partition)
        schemas = [history.saved for history in histories]
        for delta in chunks.decode(mine, self._fingerprint, schemas, self._plan.name):
            for history, rows in zip(histories, delta, strict=True):
                history.restore(rows)
        self._chunks[partition] = ChunkLog.of(mine)
        return {name: chunk for name, chunk in saved.items() if not name.startswith(self._mark)}

    def forget(self, partition: int) -> None:
        """Drop a partition; one that is not there is fine."""
        self._histories.pop(partition, None)
        self._chunks.pop(partition, None)

    def kept(self, partition: int) -> int:
        """How many events are kept of a partition."""
        return sum(map(len, self._of(partition)))

    def reset(self, partition: int, key: str) -> Saved:
        """Let go what is kept of a key. Gives what to save."""
        saved = Saved()
        if self._shared:
            for shared, history in zip(self._shared, self._of(partition), strict=True):
                history.let_go(shared.is_of(key))
            self._snapshot(partition, saved)
        return saved

    def add(self, inputs: pa.Table, batches: Sequence[Batch], keys: Slots) -> tuple[pa.Table, Saved]:
        """The inputs with what they find, and what to save. The events are kept for those to come."""
        saved = Saved()
        if not self._shared:
            return inputs, saved
        bounds = np.cumsum([0, *map(len, batches)])
        changed: dict[int, list[Ints]] = {batch.partition: [] for batch in batches}
        for number, shared in enumerate(self._shared):
            events = shared.events(inputs)
            at = np.searchsorted(events.column("row").to_numpy(), bounds)
            parts = []
            for batch, start, begin, end in zip(batches, bounds, at, at[1:], strict=False):
                history = self._of(batch.partition)[number]
                part = events.slice(begin, end - begin)
                columns, groups = shared.step(history, part, part.column("row").to_numpy() - start, len(batch), keys)
                parts.append(columns)
                changed[batch.partition].append(groups)
            table = pa.Table.from_batches(parts)
            for field, column in zip(table.schema, table.columns, strict=True):
                inputs = inputs.append_column(field, column)
        for batch in batches:
            if any(map(len, changed[batch.partition])):
                self._save(batch, changed[batch.partition], saved)
        return inputs, saved

    def _of(self, partition: int) -> list[History]:
        if partition not in self._histories:
            self._histories[partition] = [shared.history() for shared in self._shared]
        return self._histories[partition]

    def _save(self, batch: Batch, changed: Sequence[Ints], saved: Saved) -> None:
        partition, histories = batch.partition, self._of(batch.partition)
        log = self._chunks.setdefault(partition, ChunkLog())
        if log.wants_snapshot:
            now: Micros = int(batch.times[-1])
            for history in histories:
                history.forget(now)
            self._snapshot(partition, saved)
        else:
            rows = (history.rows(groups) for history, groups in zip(histories, changed, strict=True))
            save = log.delta(chunks.encode(self._fingerprint, *rows))
            saved.save[partition] = {f"{self._mark}{name}": chunk for name, chunk in save.items()}

    def _snapshot(self, partition: int, saved: Saved) -> None:
        log = self._chunks.setdefault(partition, ChunkLog())
        rows = (history.rows() for history in self._of(partition))
        save, drop = log.snapshot(chunks.encode(self._fingerprint, *rows))
        saved.save[partition] = {f"{self._mark}{name}": chunk for name, chunk in save.items()}
        saved.drop[partition] = [f"{self._mark}{name}" for name in drop]


class _Shared:
    """Lookbacks that share a history: what of an event is looked for, and among what."""

    def __init__(
        self, duck: Duck, plan: WindowPlan, lookbacks: Sequence[Lookback], schema: pa.Schema, lookups: Source
    ) -> None:
        first = lookbacks[0]
        self._lookbacks = lookbacks
        arguments = dict.fromkeys(each.argument for each in lookbacks if each.argument is not None)
        self._place = {argument: f"x{number}" for number, argument in enumerate(arguments)}
        self._has_by = bool(first.by)
        below = replace(plan, lookbacks=tuple(each for each in plan.lookbacks if each.level < first.level))

        def text(data: str) -> str:
            return lookback_text(below, first.by, first.when, [*arguments], data)

        self._events = Careful(duck, text, Source(schema), lookups)
        answer = self._events.run(schema.empty_table()).schema
        self._values = pa.schema([answer.field(name) for name in self._place.values()])
        self._depth = max(max(each.offset for each in lookbacks), 1)
        self._reach = max(each.reach for each in lookbacks)
        self.meaning = (first.by, first.when, self._place, self._values.to_string(), self._depth)
        self.fields: list[pa.Field] = []
        for each in lookbacks:
            type_ = self._values.field(self._place[each.argument]).type if each.argument is not None else pa.int64()
            self.fields += [pa.field(f"#back{each.number}", type_), pa.field(f"#known{each.number}", pa.bool_())]

    def history(self) -> History:
        """An empty one."""
        return History(self._depth, self._reach, self._values)

    def events(self, inputs: pa.Table) -> pa.Table:
        """The valid events of a step's inputs (`lookback_text`)."""
        return self._events.run(inputs)

    def step(
        self, history: History, events: pa.Table, rows: Ints, length: int, keys: Slots
    ) -> tuple[pa.RecordBatch, Ints]:
        """What the events of a partition find, which stand at `rows` of a batch of a `length`: its further columns. And
        the groups that changed."""
        found, values, changed = history.step(
            Events(
                self._groups(history, events, keys),
                events.column("time").to_numpy(),
                events.column("arrival").to_numpy(),
                events.column("found").to_numpy().astype(np.bool_),
                pa.table([events.column(name) for name in self._values.names], schema=self._values),
            ),
            self._lookbacks,
        )
        arrays: list[pa.Array] = []
        for lookback, its in zip(self._lookbacks, found, strict=True):
            of_row = np.full(length, -1, np.int64)
            of_row[rows] = its
            known = of_row >= 0
            if lookback.argument is None:
                arrays.append(pa.array(known.astype(np.int64)))
            else:
                column = values.column(self._place[lookback.argument]).combine_chunks()
                arrays.append(column.take(pa.array(of_row, mask=~known)))
            arrays.append(pa.array(known))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(self.fields)), changed

    def _groups(self, history: History, events: pa.Table, keys: Slots) -> Ints:
        """The groups of events: numbers of their key and what they are looked for by."""
        slot = events.column("slot").to_numpy()
        if not self._has_by:
            slots, place = np.unique(slot, return_inverse=True)
            return history.groups([keys.names[slot] for slot in slots.tolist()])[place]
        by = events.column("by").combine_chunks().dictionary_encode()
        texts = by.dictionary.to_pylist()
        pairs, place = np.unique(slot * len(texts) + by.indices.to_numpy(), return_inverse=True)
        keyed = ((keys.names[pair // len(texts)], texts[pair % len(texts)]) for pair in pairs.tolist())
        return history.groups([group_name(key, text) for key, text in keyed])[place]

    def is_of(self, key: str) -> Callable[[str], bool]:
        """Whether a group is one of this key."""
        return (lambda group: key_of(group) == key) if self._has_by else key.__eq__


def _sharing(lookbacks: Sequence[Lookback]) -> Sequence[Sequence[int]]:
    """The numbers of lookbacks that share a history, lower levels first."""
    shared: dict[tuple[int, tuple[str, ...], str], list[int]] = {}
    for number, each in enumerate(lookbacks):
        shared.setdefault((each.level, each.by, each.when or ""), []).append(number)
    return [shared[place] for place in sorted(shared)]
