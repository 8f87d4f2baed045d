"""What the writer holds of the log in memory: where partitions begin and end, and where groups are.

It is read from the file at start, and changed only after a commit is durable.
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw
import numpy as np

from millstream.clock import Micros
from millstream.log.sqlite.catalog import Catalog, load_catalog
from millstream.log.sqlite.format import offset_of, row_id
from millstream.log.sqlite.place import GroupPosition, Mark


@dataclass(slots=True)
class Index:
    """By partition id: `firsts` and `ends`. By group and partition id: `positions`, and `dues` of ticks."""

    catalog: Catalog
    firsts: dict[int, Mark]
    ends: dict[int, Mark]
    groups: dict[str, int]
    positions: dict[tuple[int, int], GroupPosition]
    dues: dict[tuple[int, int], Micros]

    @property
    def last_time(self) -> Micros:
        """The time of the newest record."""
        return max((mark.time for mark in self.ends.values()), default=0)

    @property
    def next_due(self) -> Micros | None:
        """When the next tick is due."""
        return min(self.dues.values(), default=None)

    def group_ids(self, partition: int) -> list[int]:
        """The groups that have a position in a partition."""
        return [group for group, where in self.positions if where == partition]

    def forget(self, partitions: tuple[int, ...]) -> None:
        """Drop what is known of partitions."""
        for partition in partitions:
            del self.firsts[partition], self.ends[partition]
        gone = set(partitions)
        self.positions = {key: value for key, value in self.positions.items() if key[1] not in gone}
        self.dues = {key: value for key, value in self.dues.items() if key[1] not in gone}


def load_index(db: apsw.Connection) -> Index:
    """Read everything back."""
    firsts = {
        partition: Mark(*mark)
        for partition, *mark in db.execute(
            "SELECT id, first, events, size, time FROM partitions WHERE stream_id IS NOT NULL"
        )
    }
    return Index(
        catalog=load_catalog(db),
        firsts=firsts,
        ends={partition: _end(db, partition) or first for partition, first in firsts.items()},
        groups=dict(db.execute("SELECT name, id FROM consumer_groups")),
        positions={
            (group, partition): GroupPosition(low, unpack_done(done), expired)
            for group, partition, low, done, expired in db.execute(
                "SELECT group_id, partition_id, low, done, expired FROM positions"
            )
        },
        dues={
            (group, partition): at for group, partition, at in db.execute("SELECT group_id, partition_id, at FROM dues")
        },
    )


def _end(db: apsw.Connection, partition: int) -> Mark | None:
    last = db.execute(
        "SELECT id, records, events + events_before, size + size_before, last_time FROM chunks "
        "WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
        (row_id(partition, 0), row_id(partition + 1, 0) - 1),
    ).fetchone()
    if last is None:
        return None
    chunk, records, events, size, time = last
    return Mark(offset_of(chunk) + records, events, size, time)


def pack_done(done: tuple[int, ...]) -> bytes | None:
    """Completed offsets as they are stored: little-endian 64-bit integers, nothing for none."""
    return np.asarray(done, "<i8").tobytes() if done else None


def unpack_done(data: bytes | None) -> tuple[int, ...]:
    """The inverse of `pack_done`."""
    return tuple(np.frombuffer(data, "<i8").tolist()) if data else ()
