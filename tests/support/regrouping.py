"""A query that regroups, with the log and the workers around it played by hand: partitions are read at any pace, change
hands, and commits fail. Beside it the definition of what comes out, one event after the other."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from tests.support.windows import START, Record, Sent, Ticked, batch_of, everything, last_end

from millstream.clock import SECOND, Micros
from millstream.engine import RegroupedQuery, Step
from millstream.engine.window import Kind, Window
from millstream.event import BATCH_SCHEMA, EVENT_SCHEMA, Batch
from millstream.log.partition import partition_of

Place = tuple[str, int]


@dataclass
class Rig:
    """`processors` share the partitions; `owner` says who has which."""

    processors: Sequence[RegroupedQuery]
    partitions: int
    now: float = 0.0
    owner: dict[int, int] = field(default_factory=dict)
    source: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))
    parts: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    position: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    chunks: dict[int, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    due: dict[int, Micros] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)
    early: list[dict[str, Any]] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        for processor in self.processors:
            for number in range(self.partitions):
                processor.forget(number)
        for number in range(self.partitions):
            self.give(number, 0)

    def give(self, partition: int, to: int) -> None:
        """A partition changes hands."""
        if partition in self.owner:
            self.processors[self.owner[partition]].forget(partition)
        self.owner[partition] = to
        self.processors[to].restore(partition, dict(sorted(self.chunks[partition].items())))

    def upgrade(self, processors: Sequence[RegroupedQuery]) -> None:
        """Others go on with what is committed."""
        for number, owner in self.owner.items():
            self.processors[owner].forget(number)
        self.processors = processors
        for number, owner in self.owner.items():
            self.processors[owner].restore(number, dict(sorted(self.chunks[number].items())))

    def append(self, record: Record) -> None:
        """A record comes, and before it the ticks that are due by then."""
        self.now = max(self.now, record.seconds)
        self.tick()
        self.source[record.partition].append(record)

    def tick(self) -> None:
        """The ticks that are due come."""
        for partition, at in list(self.due.items()):
            if at <= START + round(self.now * SECOND):
                self.source[partition].append(Ticked(self.now, partition))
                del self.due[partition]

    def step(self, worker: int, most: int, *, fails: bool = False) -> bool:
        """A worker takes at most so many records from each of its places. Gives whether there were any."""
        batches = []
        for partition, owner in sorted(self.owner.items()):
            if owner == worker:
                batches += [
                    batch
                    for batch in (self._source(partition, most), self._parts(partition, most))
                    if batch is not None
                ]
        if not batches:
            return False
        step = self.processors[worker].step(batches)
        if fails:
            for partition in [number for number, owner in self.owner.items() if owner == worker]:
                self.give(partition, worker)
        else:
            self._commit(batches, step)
        return True

    def finish(self) -> None:
        """Everything is read, and the ticks come that are asked for, until nobody asks any more."""
        for _ in range(2_000):
            if sum(self.step(worker, 100) for worker in range(len(self.processors))):
                continue
            if not self.due:
                return
            self.now = max(self.now, (min(self.due.values()) - START) / SECOND)
            self.tick()
        raise AssertionError("it does not come to an end")

    def _source(self, partition: int, most: int) -> Batch | None:
        begin = self.position["telemetry", partition]
        piece = list(enumerate(self.source[partition]))[begin : begin + most]
        return batch_of("telemetry", partition, piece) if piece else None

    def _parts(self, partition: int, most: int) -> Batch | None:
        begin = self.position["$q.parts", partition]
        rows = self.parts[partition][begin : begin + most]
        if not rows:
            return None
        events = pa.RecordBatch.from_pylist(rows, EVENT_SCHEMA)
        offsets = pa.array(np.arange(begin, begin + len(rows)))
        times = pa.array(np.full(len(rows), START)).cast(BATCH_SCHEMA.field("time").type)
        batch = pa.RecordBatch.from_arrays([offsets, times, *events.columns], schema=BATCH_SCHEMA)
        return Batch("$q.parts", partition, batch, begin + len(rows))

    def _commit(self, batches: Sequence[Batch], step: Step) -> None:
        for batch in batches:
            self.position[batch.stream, batch.partition] = batch.next_offset
        for partition, names in step.drop.items():
            for name in names:
                del self.chunks[partition][name]
        for partition, chunks in step.save.items():
            self.chunks[partition].update(chunks)
        for (_, partition), at in step.due.items():
            self.due.pop(partition, None)
            if at is not None:
                self.due[partition] = at
        for name, count in step.counts.items():
            self.counts[name] += count
        for event in step.outputs.to_pylist() if step.outputs is not None else []:
            if event["topic"] == "$q.parts":
                self.parts[partition_of(event["key"], self.partitions)].append(event)
            else:
                result = {**json.loads(event["data"]), "#key": event["key"], "#id": event["id"]}
                result["#place"] = len(self.results) + len(self.early)
                if event["topic"] == "q.early":
                    self.early.append({**result, "mark": dict(event["headers"])["early-at"]})
                else:
                    self.results.append(result)
        if step.late is not None:
            self.late += [dict(headers)["late-position"] for headers in step.late.column("headers").to_pylist()]


@dataclass
class Definition:
    """Which events of a partition are late, and what windows hold, by definition."""

    windows: Sequence[Kind]
    idle: Micros
    grace: Micros
    high: Micros | None = None
    seen: Micros = 0
    closed: Micros = -(1 << 62)
    late: list[int] = field(default_factory=list)
    taken: list[tuple[Any, Micros, float | None, Micros]] = field(default_factory=list)
    arrivals: list[Micros] = field(default_factory=list)
    clocks: list[tuple[Micros, Micros, Micros]] = field(default_factory=list)

    def feed(self, place: int, record: Record) -> None:
        """The record at a place of the partition."""
        if not isinstance(record, Sent):
            return
        try:
            payload = json.loads(record.payload.decode())
            moment = datetime.fromisoformat(payload["ts"]) - datetime.fromtimestamp(0, UTC)
        except (ValueError, KeyError, TypeError):
            return
        arrival = START + round(record.seconds * SECOND)
        time = min(moment // timedelta(microseconds=1), arrival + 300 * SECOND)
        if self.high is not None:
            self.closed = max(self.closed, self.high - self.grace - 1, self.high + arrival - self.seen - self.idle)
        if payload.get("ok") is True:
            if all(last_end(window, time) <= self.closed for window in self.windows):
                self.late.append(place)
            else:
                self.taken.append((payload.get("line"), time, payload.get("v"), self.closed))
                self.arrivals.append(arrival)
        self.high = time if self.high is None else max(self.high, time)
        self.seen = arrival
        self.clocks.append((self.seen, self.high, max(self.closed, self.high - self.grace - 1)))

    def passed(self, mark: Micros) -> tuple[bool, Micros]:
        """Whether it goes its own way at a mark, and up to where it has passed by then."""
        before = [clock for clock in self.clocks if clock[0] < mark]
        if not before:
            return False, -(1 << 62)
        seen, high, closed = before[-1]
        return mark - seen < 6 * self.idle, max(closed, high + mark - seen - self.idle)

    @staticmethod
    def results(windows: Sequence[Kind], partitions: Sequence[Definition]) -> list[dict[str, Any]]:
        """What comes of the events of all partitions."""
        return Definition._results(windows, [taken for partition in partitions for taken in partition.taken])

    @staticmethod
    def early_results(
        windows: Sequence[Kind], partitions: Sequence[Definition], interval: Micros
    ) -> list[dict[str, Any]]:
        """What is told of it at marks."""
        came = [pair for partition in partitions for pair in zip(partition.arrivals, partition.taken, strict=True)]
        found = []
        for mark in {(arrival // interval + 1) * interval for arrival, _ in came}:
            passed = [partition.passed(mark) for partition in partitions]
            horizon = min((its for counts, its in passed if counts), default=max(its for _, its in passed))
            concerned = {taken[0] for arrival, taken in came if mark - interval <= arrival < mark}
            inside = [taken for arrival, taken in came if arrival < mark and taken[0] in concerned]
            found += [{**one, "mark": mark} for one in Definition._results(windows, inside) if one["t"] > horizon]
        return found

    @staticmethod
    def _results(
        windows: Sequence[Kind], taken: Sequence[tuple[Any, Micros, float | None, Micros]]
    ) -> list[dict[str, Any]]:
        groups: dict[Any, list[tuple[Micros, float | None, Micros]]] = defaultdict(list)
        for line, time, value, horizon in taken:
            groups[line].append((time, value, horizon))
        found = []
        for line, events in groups.items():
            for window in windows:
                for end, inside in everything(window, events):
                    values = [value for value in inside if value is not None]
                    if inside:
                        found.append(
                            {
                                "line": line,
                                "n": len(inside),
                                "total": sum(values) if values else None,
                                "mean": sum(values) / len(values) if values else None,
                                "all": sorted(values),
                                "t": end,
                                "kind": window.id if isinstance(window, Window) else None,
                            }
                        )
        return found
