"""Millstream over the events of the windows benchmark: `python -m benchmarks.windows_millstream COUNT RATE`.

They stand in a log on disk, in batches as a busy gateway commits them (`replay`). Prints the seconds that a worker
takes for them, as a JSON list.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks import events
from benchmarks.events import Events
from benchmarks.process import unwind_on_sigterm
from benchmarks.replay import FILL_EVENTS, fill, replay
from benchmarks.windows_app import app, telemetry
from millstream.event import Event


def batches(made: Events) -> Iterator[list[Event]]:
    """The events, as many at a time as a busy gateway commits."""
    batch: list[Event] = []
    with made.whole.open("rb") as lines:
        for number, line in enumerate(lines):
            topic = f"site/{number % 10}/{events.device_of(number)}/telemetry"
            batch.append(Event(topic=topic, payload=line.rstrip(b"\n")))
            if len(batch) == FILL_EVENTS:
                yield batch
                batch = []
    if batch:
        yield batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="events, a multiple of the devices")
    parser.add_argument("rate", type=int, help="events of a device a second")
    parser.add_argument("--results", type=Path, help="where to write what the query found")
    options = parser.parse_args()
    unwind_on_sigterm()
    made = events.make(options.count, options.rate)
    filled = fill(made.folder, telemetry, batches(made))
    print(json.dumps([replay(app, "windows_app.py", telemetry, filled, "averages", options.results)]))


if __name__ == "__main__":
    main()
