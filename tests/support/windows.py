"""Tumbling windows by definition, one record at a time; and logs, cut into batches, to run against them.

The oracle shares nothing with the engine: it is the text of the rules in plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from millstream.clock import SECOND, Micros
from millstream.engine import Processor, Step
from millstream.engine.window import Kind, Session, Sliding, Window
from millstream.event import BATCH_SCHEMA, Batch, Tick

START: Micros = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z, a multiple of every window size used in tests


@dataclass(frozen=True, slots=True)
class Sent:
    """An event in the log; `seconds` (its arrival) count from START."""

    key: str
    seconds: float
    payload: bytes
    partition: int = 0
    topic: str = "site/a/device/telemetry"
    headers: Mapping[str, str] | None = None
    id: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Ticked:
    """A tick in the log, at `seconds` from START."""

    seconds: float
    partition: int = 0


Record = Sent | Ticked


def at(seconds: float) -> str:
    """An instant in RFC 3339."""
    moment = datetime.fromtimestamp(START / SECOND, UTC) + timedelta(seconds=seconds)
    text = moment.isoformat().replace("+00:00", "")
    return (text.rstrip("0") if "." in text else text) + "Z"


def reading(key: str, seconds: float, arrival: float | None = None, **payload: Any) -> Sent:
    """An event of a device that says `ts`, and what else is given."""
    body = json.dumps({"ts": at(seconds), **payload}).encode()
    return Sent(key, seconds if arrival is None else arrival, body, topic=f"site/a/{key}/telemetry")


def cut(log: Sequence[Record], lengths: Iterable[int], stream: str = "telemetry") -> list[list[Batch]]:
    """The log in steps of these lengths, the rest in one: each step a list of batches, one a partition."""
    offsets: dict[int, int] = {}
    placed = []
    for record in log:
        offsets[record.partition] = offsets.get(record.partition, -1) + 1
        placed.append((offsets[record.partition], record))
    steps = []
    for length in (*lengths, len(log)):
        piece, placed = placed[:length], placed[length:]
        if piece:
            partitions = sorted({record.partition for _, record in piece})
            steps.append([batch_of(stream, partition, piece) for partition in partitions])
    return steps


def batch_of(stream: str, partition: int, piece: Sequence[tuple[int, Record]]) -> Batch:
    """A batch of those records, with their offsets, that are of a partition."""
    mine = [(offset, record) for offset, record in piece if record.partition == partition]
    events = [(offset, record) for offset, record in mine if isinstance(record, Sent)]
    columns: dict[str, list[Any]] = {
        "offset": [offset for offset, _ in events],
        "time": [START + round(e.seconds * SECOND) for _, e in events],
        "topic": [e.topic for _, e in events],
        "key": [e.key for _, e in events],
        "id": [e.id for _, e in events],
        "type": [e.type for _, e in events],
        "content_type": [None for _ in events],
        "headers": [list(e.headers.items()) if e.headers else None for _, e in events],
        "data": [e.payload for _, e in events],
    }
    ticks = tuple(Tick(o, START + round(t.seconds * SECOND)) for o, t in mine if isinstance(t, Ticked))
    arrays = [pa.array(columns[column.name], column.type) for column in BATCH_SCHEMA]
    return Batch(stream, partition, pa.RecordBatch.from_arrays(arrays, schema=BATCH_SCHEMA), mine[-1][0] + 1, ticks)


@dataclass(slots=True)
class Store:
    """What a worker's commits leave: state chunks by partition, and the ticks that are asked for."""

    chunks: dict[int, dict[str, bytes]] = field(default_factory=dict)
    due: dict[int, Micros | None] = field(default_factory=dict)

    def commit(self, step: Step) -> None:
        for partition, names in step.drop.items():
            for name in names:
                del self.chunks[partition][name]
        for partition, chunks in step.save.items():
            self.chunks.setdefault(partition, {}).update(chunks)
        self.due.update({partition: at for (_, partition), at in step.due.items()})


def data_of(events: pa.RecordBatch | None) -> list[Any]:
    """The payloads of events, decoded."""
    return [] if events is None else [json.loads(data) for data in events.column("data").to_pylist()]


def run(processor: Processor, steps: Iterable[Sequence[Batch]], partitions: Iterable[int] = (0,)) -> list[Step]:
    """Run a fresh processor over steps."""
    for partition in partitions:
        processor.restore(partition, {})
    return [processor.step(batches) for batches in steps]


def ends(window: Window, time: Micros) -> list[Micros]:
    """The ends of the windows that a time is in: those of `offset + n * hop` with `end - size < time <= end`."""
    first = (time - window.offset - 1) // window.hop
    around = (window.offset + n * window.hop for n in range(first, first + window.size // window.hop + 3))
    return [end for end in around if end - window.size < time <= end]


def last_end(window: Kind, time: Micros) -> Micros:
    """When the last window is closed that an event may be in."""
    return max(ends(window, time)) if isinstance(window, Window) else time


def everything(
    window: Kind, events: Sequence[tuple[Micros, float | None, Micros]]
) -> Iterator[tuple[Micros, list[float | None]]]:
    """Every window of a kind, by its end, and what is in it (of a sliding one maybe nothing)."""
    match window:
        case Window():
            for end in {end for time, _, horizon in events for end in ends(window, time) if end > horizon}:
                inside = [v for time, v, horizon in events if end in ends(window, time) and end > horizon]
                yield end, inside
        case Sliding(size):
            for end in {time + passed for time, _, _ in events for passed in (0, size)}:
                yield end, [value for time, value, _ in events if end - size < time <= end]
        case Session(timeout, longest):
            yield from sessions(timeout, longest, sorted((time, n) for n, (time, _, _) in enumerate(events)), events)


def sessions(
    timeout: Micros,
    longest: Micros | None,
    order: Sequence[tuple[Micros, int]],
    events: Sequence[tuple[Micros, float | None, Micros]],
) -> Iterator[tuple[Micros, list[float | None]]]:
    """Sessions, event by event."""
    inside: list[float | None] = []
    last = cut = 0
    for time, n in order:
        if not inside or time - last > timeout:
            if inside:
                yield min(last + timeout, cut), inside
            inside = []
            cut = next_multiple(time + longest, longest) if longest is not None else 1 << 62
        elif time > cut:
            yield cut, inside
            inside = []
            while longest is not None and cut < time:  # the next one begins at the cut
                cut += longest
        inside.append(events[n][1])
        last = time
    if inside:
        yield min(last + timeout, cut), inside


def next_multiple(time: Micros, of: Micros) -> Micros:
    return -(-time // of) * of


@dataclass(slots=True)
class _Key:
    """`events` are those that were taken: their time, what they bring, and up to where windows were closed then."""

    high: Micros | None = None
    seen: Micros = 0
    closed: Micros | None = None
    events: list[tuple[Micros, float | None, Micros]] = field(default_factory=list)
    done: set[tuple[Micros, int]] = field(default_factory=set)


@dataclass(slots=True)
class Oracle:
    """`SELECT device, count(*) AS n, sum(v) AS total, min(v) AS low, max(v) AS top, System.Timestamp() AS window_end,
    System.Window().Id AS kind FROM telemetry TIMESTAMP BY ts WHERE ok GROUP BY device, Windows(…)`, by definition."""

    windows: Sequence[Kind]
    idle: Micros
    grace: Micros
    keys: dict[tuple[int, str], _Key] = field(default_factory=dict)
    results: dict[tuple[int, str], list[dict[str, Any]]] = field(default_factory=dict)
    late: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    filtered: int = 0
    clamped: int = 0
    days: dict[int, int] = field(default_factory=dict)

    def feed(self, place: int, record: Record) -> None:
        """Process the record at a place in the log."""
        self._pass_midnight(record)
        if isinstance(record, Ticked):
            now = START + round(record.seconds * SECOND)
            for name, key in list(self.keys.items()):
                if name[0] == record.partition:
                    self._tick(name, key, now)
            return
        try:
            payload = json.loads(record.payload.decode())
            time = datetime.fromisoformat(payload["ts"])
        except (ValueError, KeyError, TypeError):
            self.rejected.append(place)
            return
        name = (record.partition, record.key)
        self._event(place, name, (time - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1), record, payload)

    def _pass_midnight(self, record: Record) -> None:
        """Forget keys without an open window of which nothing has arrived for a day."""
        day = int((START // SECOND + record.seconds) // 86_400)
        before = self.days.setdefault(record.partition, day)
        self.days[record.partition] = max(day, before)
        if day > before:
            for name, key in list(self.keys.items()):
                is_silent = key.high is not None and key.seen < (day - 1) * 86_400 * SECOND
                if name[0] == record.partition and is_silent and not self._open(key):
                    del self.keys[name]

    def _event(self, place: int, name: tuple[int, str], time: Micros, record: Sent, payload: dict[str, Any]) -> None:
        key = self.keys.setdefault(name, _Key())
        arrival = START + round(record.seconds * SECOND)
        if time > arrival + 300 * SECOND:
            time = arrival + 300 * SECOND
            self.clamped += 1
        horizon = self._horizon(key)
        if payload.get("ok") is not True:
            self.filtered += 1
        elif all(last_end(window, time) <= horizon for window in self.windows):
            self.late.append(place)
        else:
            key.events.append((time, payload.get("v"), horizon))
        key.high = time if key.high is None else max(key.high, time)
        key.seen = arrival
        self._emit(name, key)

    def _tick(self, name: tuple[int, str], key: _Key, now: Micros) -> None:
        if key.high is not None:
            due = [end for end, _ in self._open(key) if key.high + (now - key.seen) >= end + self.idle]
            if due:
                key.closed = max(due) if key.closed is None else max(*due, key.closed)
        self._emit(name, key)

    def _horizon(self, key: _Key) -> Micros:
        """Windows that end by then are closed."""
        by_clock = -(1 << 62) if key.high is None else key.high - self.grace - 1
        return by_clock if key.closed is None else max(by_clock, key.closed)

    def _all(self, key: _Key) -> dict[tuple[Micros, int], list[float | None]]:
        """Every window that there ever was, by its end and kind, and what is in it."""
        found: dict[tuple[Micros, int], list[float | None]] = {}
        for number, window in enumerate(self.windows):
            for end, values in everything(window, key.events):
                found[end, number] = values
        return found

    def _open(self, key: _Key) -> list[tuple[Micros, int]]:
        horizon = self._horizon(key)
        return [place for place in self._all(key) if place[0] > horizon]

    def _emit(self, name: tuple[int, str], key: _Key) -> None:
        horizon = self._horizon(key)
        for (end, number), inside in sorted(self._all(key).items(), key=lambda item: item[0]):
            if end > horizon or (end, number) in key.done:
                continue
            key.done.add((end, number))
            if not inside:
                continue
            values = [value for value in inside if value is not None]
            self.results.setdefault(name, []).append(
                {
                    "device": name[1],
                    "n": len(inside),
                    "total": sum(values) if values else None,
                    "low": min(values, default=None),
                    "top": max(values, default=None),
                    "window_end": at((end - START) / SECOND),
                    "kind": self.windows[number].id,
                }
            )

    def due(self, partition: int) -> Micros | None:
        """The first whole second at which a tick would close a window of a partition."""
        instants = [
            key.seen + end + self.idle - key.high
            for (its_partition, _), key in self.keys.items()
            for end, _ in self._open(key)
            if its_partition == partition and key.high is not None
        ]
        return -(-min(instants) // SECOND) * SECOND if instants else None
