"""Bytewax over the events of the windows benchmark, on one worker. Runs in Bytewax's own virtual environment.

The events are in memory before it starts; they are read and decoded a batch at a time (`flat_map_batch`, orjson), and
folded into the windows. Prints the seconds from the first batch asked for to the end of the dataflow.
"""

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

_BATCH = 10_000
_ALIGN = datetime(2025, 1, 1, tzinfo=UTC)

Reading = tuple[datetime, float]


class Memory(DynamicSource[bytes], StatelessSourcePartition[bytes]):
    """Lines from memory, for a single worker; it knows when the first batch was asked for."""

    def __init__(self, lines: list[bytes]) -> None:
        self.began = 0.0
        self._lines = lines
        self._batches = iter(range(0, len(lines), _BATCH))

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "Memory":
        return self

    def next_batch(self) -> list[bytes]:
        self.began = self.began or time.perf_counter()
        start = next(self._batches)
        return self._lines[start : start + _BATCH]


class Keep(DynamicSink[tuple[str, int, int, float, float]], StatelessSinkPartition[tuple[str, int, int, float, float]]):
    """Results kept in a list."""

    def __init__(self) -> None:
        self.results: list[tuple[str, int, int, float, float]] = []

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "Keep":
        return self

    def write_batch(self, items: list[tuple[str, int, int, float, float]]) -> None:
        self.results += items


def decode(lines: list[bytes]) -> Iterator[tuple[str, Reading]]:
    """The readings by device, without the lines that are no JSON."""
    loads, moment = orjson.loads, datetime.fromisoformat
    for line in lines:
        try:
            event = loads(line)
        except orjson.JSONDecodeError:
            continue
        yield event["device"], (moment(event["ts"]), event["celsius"])


def fold(total: list[float], reading: Reading) -> list[float]:
    celsius = reading[1]
    total[0] += 1
    total[1] += celsius
    if celsius > total[2]:
        total[2] = celsius
    return total


def merge(a: list[float], b: list[float]) -> list[float]:
    return [a[0] + b[0], a[1] + b[1], max(a[2], b[2])]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("events", type=Path)
    parser.add_argument("--window-seconds", type=int, required=True)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    begin = int(_ALIGN.timestamp())

    def row(item: tuple[str, tuple[int, list[float]]]) -> tuple[str, int, int, float, float]:
        device, (window, (n, total, peak)) = item
        return device, begin + (window + 1) * options.window_seconds, int(n), total / n, peak

    source, sink = Memory(options.events.read_bytes().splitlines()), Keep()
    flow = Dataflow("windows")
    readings = op.flat_map_batch("decode", op.input("events", flow, source), decode)
    windows = win.fold_window(
        "fold",
        readings,
        win.EventClock(ts_getter=lambda reading: reading[0], wait_for_system_duration=timedelta(seconds=2)),
        win.TumblingWindower(length=timedelta(seconds=options.window_seconds), align_to=_ALIGN),
        lambda: [0, 0.0, float("-inf")],
        fold,
        merge,
    )
    op.output("out", op.map("row", windows.down, row), sink)
    run_main(flow)
    seconds = time.perf_counter() - source.began
    if options.results:
        with options.results.open("w") as file:
            for result in sink.results:
                file.write(json.dumps(dict(zip(("device", "end", "n", "mean", "peak"), result, strict=True))) + "\n")
    print(json.dumps([seconds]))


if __name__ == "__main__":
    main()
