"""Quix Streams over the events of the windows benchmark, from a topic to a topic. Runs in a virtual environment of its
own.

Once a second it prints how many records it has processed, and when the last one was, as a JSON list.
"""

import argparse
import json
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Mean


class Progress:
    """What has been processed, also records that are no JSON."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0

    def note(self, *given: Any) -> bool:
        """One more. True tells Quix Streams that an error is dealt with."""
        self.count += 1
        self.last = time.time()
        return True

    def tell(self) -> None:
        """For ever."""
        while True:
            time.sleep(1)
            print(json.dumps([self.count, self.last]), flush=True)


def when(value: Any, headers: Any, timestamp: int, kind: Any) -> int:
    """Event time in milliseconds."""
    return round(datetime.fromisoformat(value["ts"]).timestamp() * 1000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("servers")
    parser.add_argument("topic")
    parser.add_argument("results")
    parser.add_argument("group")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--window-seconds", type=int, required=True)
    options = parser.parse_args()
    progress = Progress()
    app = Application(
        options.servers,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        state_dir=options.state,
        on_consumer_error=progress.note,
        loglevel="WARNING",
    )
    events = app.topic(options.topic, value_deserializer="json", timestamp_extractor=when)
    results = app.topic(options.results, value_serializer="json")
    frame = app.dataframe(events)
    frame = frame.update(progress.note)
    windows = frame.tumbling_window(options.window_seconds * 1000)
    frame = windows.agg(n=Count(), mean=Mean("celsius"), peak=Max("celsius")).final()
    frame = frame.apply(lambda value, key, *_: value | {"device": key.decode()}, metadata=True)
    frame.to_topic(results)
    threading.Thread(target=progress.tell, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda number, stack: app.stop())
    app.run()


if __name__ == "__main__":
    main()
