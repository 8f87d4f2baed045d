"""Copying the write-ahead log into the file, so that it can be used again from its beginning."""

from __future__ import annotations

import logging

import apsw

from millstream.clock import Clock
from millstream.log.sqlite.measures import Measures
from millstream.log.sqlite.schema import PAGE_BYTES, write_error

STEP_PAGES = 4096  # 16 MB: longer steps cost less in all, but hold up the commits that come meanwhile for longer
LIMIT_PAGES = 8 * STEP_PAGES  # from here on, readers are waited for
PATIENCE_MILLISECONDS = 100  # how long: a read transaction takes a few

_log = logging.getLogger(__name__)


class Checkpointer:
    """Knows from SQLite how long the WAL is. It can only be begun anew at a moment at which everything is copied and
    nobody reads from it; if such a moment does not come by itself, it is waited for."""

    def __init__(self, db: apsw.Connection, clock: Clock, measures: Measures) -> None:
        self._db = db
        self._clock = clock
        self._measures = measures
        self._pages = 0
        self._next = STEP_PAGES
        db.set_wal_hook(self._note)
        db.set_busy_timeout(PATIENCE_MILLISECONDS)

    def run(self) -> None:
        """Copy if it is time; for after a commit. `DiskFullError`, `DiskFaultError`."""
        if self._pages < self._next:
            return
        long = self._pages >= LIMIT_PAGES
        began = self._clock.monotonic()
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART if long else apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            _log.warning(
                "somebody has been reading for long, and the write-ahead log has grown to %d MB; is a process stopped?",
                self._pages * PAGE_BYTES >> 20,
            )
        except apsw.Error as error:
            raise write_error(error) from error
        self._measures.checkpoint_seconds.observe(self._clock.monotonic() - began)
        self._next = self._pages + STEP_PAGES

    def _note(self, db: apsw.Connection, name: str, pages: int) -> int:
        if pages < self._pages:  # it was begun anew
            self._next = STEP_PAGES
        self._pages = pages
        self._measures.wal_bytes = pages * PAGE_BYTES
        return apsw.SQLITE_OK
