"""What is done to the file beside committing, a slice at a time, in the writer's thread."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import apsw

from millstream.clock import Micros
from millstream.log.sqlite.coalesce import Coalescer
from millstream.log.sqlite.index import Index
from millstream.log.sqlite.retention import Retention, find_dropped, purge
from millstream.log.sqlite.stage import Stage
from millstream.settings import LogSettings


class Housekeeper:
    """Drops what is expired, and merges small chunks."""

    def __init__(
        self,
        db: apsw.Connection,
        index: Index,
        settings: LogSettings,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db = db
        self._index = index
        self._transaction = transaction
        self._retention = Retention(db, index, settings)
        self._coalescer = Coalescer(db, index)
        self._oversized = True  # until it has been looked at

    def note(self, stage: Stage) -> None:
        """Take note of a commit, and note there what there is to do now."""
        self._coalescer.note(stage.rows)
        streams = {self._index.catalog.places[partition][0] for partition in stage.ends}
        self._oversized |= any(self._retention.oversized(name) for name in streams)
        stage.oversized, stage.crumbs = self._oversized, self._coalescer.waiting

    def forget(self, partitions: tuple[int, ...]) -> None:
        """These partitions have been dropped."""
        self._coalescer.forget(partitions)

    def drop(self, now: Micros, aged: bool) -> bool:
        """Drop a slice of what is expired; whether there was something. Ages are looked at only if `aged`."""
        partition = find_dropped(self._db)
        if partition is not None:
            with self._transaction():
                purge(self._db, partition)
            return True
        drops = self._retention.find(now) if aged or self._oversized else None
        if drops is None:
            self._oversized = False
            return False
        with self._transaction():
            drops.write(self._db)
        drops.apply()
        return True

    def merge(self) -> bool:
        """Merge a run of small chunks; whether there was something to merge."""
        if self._coalescer.waiting:
            self._coalescer.merge(self._transaction())
            return True
        return False

    def next_expiry(self, now: Micros) -> Micros | None:
        """When to look at ages again."""
        return self._retention.next_expiry(now)
