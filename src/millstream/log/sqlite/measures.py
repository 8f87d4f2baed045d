"""What the embedded log measures: its commits and checkpoints, and how much is in its streams."""

from __future__ import annotations

from millstream.log.sqlite.index import Index
from millstream.log.sqlite.place import Mark
from millstream.metrics import Histogram, Reading, catalog
from millstream.metrics.histogram import SECONDS


class Measures:
    """Observed in the writer's thread, read in the event loop. `wal_bytes` is as of the last commit."""

    def __init__(self) -> None:
        self.commit_seconds = Histogram(SECONDS)
        self.checkpoint_seconds = Histogram(SECONDS)
        self.wal_bytes = 0

    def read(self, reading: Reading) -> None:
        """Add them to a reading."""
        reading.set(catalog.SYNC_SECONDS, self.commit_seconds.distribution)
        reading.set(catalog.CHECKPOINT_SECONDS, self.checkpoint_seconds.distribution)
        reading.set(catalog.WAL_BYTES, self.wal_bytes)


def read_streams(index: Index, reading: Reading) -> None:
    """Add what the index says of the streams. It changes in another thread: what is copied at once is of one moment."""
    firsts, ends = index.firsts.copy(), index.ends.copy()
    for name, stream in index.catalog.streams.items():
        marks = [(firsts.get(one, Mark()), ends.get(one, Mark())) for one in stream.partitions]
        reading.set(catalog.STREAM_EVENTS, sum(end.events - first.events for first, end in marks), name)
        reading.set(catalog.STREAM_BYTES, sum(end.size - first.size for first, end in marks), name)
        reading.set(catalog.APPENDED_EVENTS, sum(end.events for _, end in marks), name)
        reading.set(catalog.APPENDED_BYTES, sum(end.size for _, end in marks), name)
        for number, (first, end) in enumerate(marks):
            reading.set(catalog.FIRST_OFFSET, first.offset, name, str(number))
            reading.set(catalog.NEXT_OFFSET, end.offset, name, str(number))
