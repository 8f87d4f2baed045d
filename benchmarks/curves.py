"""What an event costs a windowed query, as its keys and its windows' overlap grow.

The engine alone, in this process: batches as a worker hands them to it, already read, and results and state that
nobody commits. Processor time of all threads, so that other programs on the machine hardly matter. There is no peer:
each curve is told by its first point.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from benchmarks.report import Section
from millstream.clock import SECOND
from millstream.engine import processor_of
from millstream.event import BATCH_SCHEMA, Batch
from millstream.log import StreamSpec
from millstream.sql import plan_query

KEYS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
OVERLAPS = (1, 2, 5, 10, 20, 60)
COUNT = 1_000_000  # events of a point, or two of each key if these are more

_STEP_EVENTS = 131_072  # what a worker that is behind takes at a time
_EPOCH = 1_735_689_600 * SECOND  # 2025-01-01
STREAMS = {"telemetry": StreamSpec("telemetry", ("{device}",), key="device")}
_QUERY = """SELECT device, count(*) AS n, avg(v) AS mean, max(v) AS peak FROM telemetry TIMESTAMP BY ts
    GROUP BY device, {window}"""


def run(quick: bool) -> Section:
    """Measure both curves."""
    count = COUNT // 4 if quick else COUNT
    rows = []
    base = 0.0
    for keys in KEYS:
        cost, results = measure("TumblingWindow(second, 10)", keys, max(count, 2 * keys), events_a_second=20_000)
        base = base or cost
        rows.append([f"{keys:,} keys, tumbling 10 s", *_cells(cost, base, results)])
    base = 0.0
    for overlap in OVERLAPS:
        window = f"HoppingWindow(second, 60, {60 // overlap})"
        cost, results = measure(window, 1_000, count, events_a_second=count // 200)
        base = base or cost
        rows.append([f"1,000 keys, an event in {overlap} windows of 60 s", *_cells(cost, base, results)])
    note = (
        f"Processor time of the engine for each of {count:,} events (two of each key, where these are more): JSON "
        "decoded, count, average and maximum by key, the results as JSON. Each curve is compared with its first point."
    )
    return Section("curves", ("query", "an event", "of the first", "results an event"), rows, notes=[note])


def measure(window: str, keys: int, count: int, *, events_a_second: int) -> tuple[float, float]:
    """Seconds of processor time, and results, an event. The keys take turns."""
    processor = processor_of(plan_query("q", _QUERY.format(window=window), STREAMS, into="out"))
    spent, results = 0.0, 0
    for batch in batches(keys, count, events_a_second):
        began = time.process_time()
        step = processor.step([batch])
        spent += time.process_time() - began
        results += step.outputs.num_rows if step.outputs is not None else 0
    print(f"curves: {window}, {keys:,} keys: {1e6 * spent / count:.2f} µs an event", file=sys.stderr)
    return spent / count, results / count


def batches(keys: int, count: int, events_a_second: int) -> Iterator[Batch]:
    """Readings of keys that take turns, as a worker reads them."""
    for start in range(0, count, _STEP_EVENTS):
        numbers = np.arange(start, min(count, start + _STEP_EVENTS))
        halves = 2 * numbers + 1  # so that none is on the boundary of two windows
        times = pa.array(_EPOCH + halves * SECOND // (2 * events_a_second), pa.timestamp("us", "UTC"))
        devices = pa.array([f"device-{number}" for number in (numbers % keys).tolist()])
        texts = np.datetime_as_string(times.to_numpy(zero_copy_only=False).astype("datetime64[us]")).tolist()
        payloads = [
            f'{{"ts":"{text}Z","v":{number % 997 / 8}}}'.encode()
            for text, number in zip(texts, numbers.tolist(), strict=True)
        ]
        columns = {"offset": pa.array(numbers), "time": times, "topic": devices, "key": devices, "data": payloads}
        arrays = [
            pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(numbers), field.type)
            for field in BATCH_SCHEMA
        ]
        events = pa.RecordBatch.from_arrays(arrays, schema=BATCH_SCHEMA)
        yield Batch("telemetry", 0, events, int(numbers[-1]) + 1)


def _cells(cost: float, base: float, results: float) -> tuple[str, str, str]:
    return f"{1e6 * cost:.2f} µs", f"{cost / base:.2f} ×", f"{results:.3f}"
