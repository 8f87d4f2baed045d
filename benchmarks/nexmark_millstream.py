"""Millstream over the events of NEXMark: `NEXMARK=q1 python -m benchmarks.nexmark_millstream COUNT`.

They stand in a log on disk, in batches as a busy gateway commits them (`replay`). Prints the seconds that a worker
takes for them, as a JSON list.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks import nexmark_events
from benchmarks.lines import Lines
from benchmarks.nexmark_app import app, stream
from benchmarks.process import unwind_on_sigterm
from benchmarks.replay import FILL_EVENTS, fill, replay
from millstream.event import Event


def _batches(made: Lines) -> Iterator[list[Event]]:
    with made.whole.open("rb") as lines:
        while batch := list(islice(lines, FILL_EVENTS)):
            yield [
                Event(
                    topic=f"nexmark/{nexmark_events.kind_of(line)}/{nexmark_events.key_of(line)}", payload=line.rstrip()
                )
                for line in batch
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, help="events")
    parser.add_argument("--results", type=Path, help="where to write what the query found")
    options = parser.parse_args()
    unwind_on_sigterm()
    made = nexmark_events.made_for(os.environ["NEXMARK"], options.count)
    filled = fill(made.folder, stream, _batches(made))
    print(json.dumps([replay(app, "nexmark_app.py", stream, filled, "answers", options.results)]))


if __name__ == "__main__":
    main()
