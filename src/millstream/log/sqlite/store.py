"""The log's writing side, without threads and timers: what is committed, and the file that it is committed to.

A group commit goes in two steps. *Staging* checks the transactions one after the other against what is in memory,
and gathers what they change; one that fails its checks fails alone. *Writing* then puts all of it into one SQLite
transaction. Only when that is durable does the memory change: after a failure there is nothing to take back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import apsw
import msgspec

from millstream.clock import Clock, Micros
from millstream.errors import LogError
from millstream.log.contract import EARLIEST, Committed, Start, StreamSpec
from millstream.log.specs import check_same, check_spec
from millstream.log.sqlite.catalog import load_catalog
from millstream.log.sqlite.changes import Changes
from millstream.log.sqlite.checkpoint import Checkpointer
from millstream.log.sqlite.format import MAX_PARTITIONS
from millstream.log.sqlite.housekeeper import Housekeeper
from millstream.log.sqlite.index import load_index
from millstream.log.sqlite.measures import Measures
from millstream.log.sqlite.place import GroupPosition, Mark, Resume
from millstream.log.sqlite.reader import Reader
from millstream.log.sqlite.schema import abandon, write_error
from millstream.log.sqlite.stage import Stage
from millstream.log.sqlite.status import close_accounts
from millstream.settings import LogSettings

Outcome = Committed | LogError


class Store:
    """The log behind its only writing connection. Used from one thread."""

    def __init__(self, db: apsw.Connection, settings: LogSettings, clock: Clock) -> None:
        self.db = db
        self.index = load_index(db)
        self.reader = Reader(db)
        self.measures = Measures()
        self._clock = clock
        self._last_time = self.index.last_time
        self.housekeeper = Housekeeper(db, self.index, settings, self.transaction)
        self.checkpointer = Checkpointer(db, clock, self.measures)

    def close(self) -> None:
        """Copy what remains of the WAL into the file, remove it unless the disk fails, and close. What fails here
        harms nothing: the WAL stays, and is read at the next start."""
        with suppress(apsw.Error):
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        abandon(self.db)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """An SQLite transaction: durable at the end, taken back on an error. `DiskFullError`, `DiskFaultError`."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            if self.db.in_transaction:
                with suppress(apsw.Error):
                    self.db.execute("ROLLBACK")
            if isinstance(error, apsw.Error):
                raise write_error(error) from error
            raise

    def now(self) -> Micros:
        """The time of the next commit. The wall clock may step back; the log's time does not."""
        return max(self._clock.now(), self._last_time)

    # --- committing

    def commit(self, changes: Iterable[Changes]) -> tuple[list[Outcome], Stage]:
        """Commit transactions together: the outcome of each, and what they changed."""
        stage = Stage(self.index, self.now())
        outcomes: list[Outcome] = []
        for each in changes:
            try:
                outcomes.append(stage.add(each))
            except LogError as error:
                outcomes.append(error)
        if any(isinstance(outcome, Committed) for outcome in outcomes):
            self._write(stage)
        return outcomes, stage

    def tick(self) -> Stage:
        """Append a tick to every partition where one is due, and take those dues back."""
        stage = Stage(self.index, self.now())
        due = [key for key, at in self.index.dues.items() if at <= stage.time]
        for partition in {partition for _, partition in due}:
            stage.tick(partition)
        stage.dues.update(dict.fromkeys(due))
        if due:
            self._write(stage)
        return stage

    def _write(self, stage: Stage) -> None:
        began = self._clock.monotonic()
        with self.transaction():
            stage.write(self.db)
        self.measures.commit_seconds.observe(self._clock.monotonic() - began)
        stage.apply()
        self._last_time = stage.time
        self.housekeeper.note(stage)

    # --- streams

    def create(self, spec: StreamSpec) -> bool:
        """Make a stream or bring it up to date; whether that changed anything."""
        check_spec(spec)
        known = self.index.catalog.streams.get(spec.name)
        if known is not None:
            check_same(known.spec, spec)
            if known.spec == spec:
                return False
        with self.transaction():
            text = msgspec.json.encode(spec).decode()
            if known is not None:
                self.db.execute("UPDATE streams SET spec = ? WHERE id = ?", (text, known.id))
            else:
                stream_id = self.index.catalog.version  # never used before: a stream made again is another one
                self.db.execute("INSERT INTO streams VALUES(?,?,?)", (stream_id, spec.name, text))
                self._insert_partitions(stream_id, spec.partitions)
            self.db.execute("UPDATE catalog SET version = version + 1")
        self.index.catalog = load_catalog(self.db)
        for partition in self.index.catalog.stream(spec.name).partitions:
            self.index.firsts.setdefault(partition, Mark())
            self.index.ends.setdefault(partition, Mark())
        return True

    def _insert_partitions(self, stream_id: int, count: int) -> None:
        taken = {partition for (partition,) in self.db.execute("SELECT id FROM partitions")}
        free = [partition for partition in range(min(MAX_PARTITIONS, len(taken) + count)) if partition not in taken]
        if len(free) < count:
            raise LogError(f"the log has {len(taken)} partitions, of at most {MAX_PARTITIONS}; drop a stream first")
        rows = [(partition, stream_id, number) for number, partition in enumerate(free[:count])]
        self.db.executemany("INSERT INTO partitions(id, stream_id, number) VALUES(?,?,?)", rows)

    def drop(self, name: str) -> None:
        """Drop a stream. Its chunks stay in the file, out of sight, until the housekeeper has removed them."""
        stream = self.index.catalog.stream(name)
        with self.transaction():
            close_accounts(self.db, self.index.catalog, name)
            self.db.execute("DELETE FROM streams WHERE id = ?", (stream.id,))
            self.db.execute("UPDATE partitions SET stream_id = NULL WHERE stream_id = ?", (stream.id,))
            for partition in stream.partitions:
                self.db.execute("DELETE FROM positions WHERE partition_id = ?", (partition,))
                self.db.execute("DELETE FROM starts WHERE partition_id = ?", (partition,))
                self.db.execute("DELETE FROM dues WHERE partition_id = ?", (partition,))
            self.db.execute("UPDATE catalog SET version = version + 1")
        self.index.catalog = load_catalog(self.db)
        self.index.forget(stream.partitions)
        self.housekeeper.forget(stream.partitions)

    # --- groups

    def join(self, group: str, streams: Sequence[str], start: Start) -> None:
        """Make sure that the group is known and has a position in every partition of the streams."""
        catalog = self.index.catalog
        wanted = [partition for name in streams for partition in catalog.stream(name).partitions]
        group_id = self.index.groups.get(group)
        missing = [partition for partition in wanted if (group_id, partition) not in self.index.positions]
        if group_id is not None and not missing:
            return
        marks = self.index.firsts if start == EARLIEST else self.index.ends
        with self.transaction():
            if group_id is None:
                self.db.execute("INSERT INTO consumer_groups(name) VALUES(?)", (group,))
                group_id = self.db.last_insert_rowid()
            rows = [(group_id, partition, marks[partition].offset) for partition in missing]
            self.db.executemany("INSERT INTO positions(group_id, partition_id, low) VALUES(?,?,?)", rows)
            starts = [(*row, marks[row[1]].events) for row in rows]
            self.db.executemany("INSERT INTO starts VALUES(?,?,?,?)", starts)
        self.index.groups[group] = group_id
        self.index.positions.update({(row[0], row[1]): GroupPosition(row[2]) for row in rows})

    def resume(self, group: str, streams: Sequence[str], numbers: Iterable[int]) -> dict[int, dict[str, Resume]]:
        """Where the group goes on, by partition number and stream."""
        group_id = self.index.groups[group]
        found: dict[int, dict[str, Resume]] = {number: {} for number in numbers}
        for name in streams:
            stream = self.index.catalog.streams.get(name)
            for number, resumes in found.items():
                if stream is not None and number < len(stream.partitions):
                    partition = stream.partitions[number]
                    position = self.index.positions.get((group_id, partition)) or GroupPosition(0)
                    resumes[name] = Resume(*position, self.index.firsts[partition])
        return found
