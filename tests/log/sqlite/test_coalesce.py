"""Coalescing: the log reads as if nothing had been merged."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.records import append, contents, events
from tests.support.streams import eventually

from millstream.clock import SECOND, VirtualClock
from millstream.event import Batch
from millstream.log import Bounds, StreamSpec
from millstream.log.sqlite import SqliteLog, coalesce
from millstream.log.sqlite.changes import Append, Changes
from millstream.log.sqlite.format import pack
from millstream.log.sqlite.place import Cursor
from millstream.log.sqlite.schema import open_memory
from millstream.log.sqlite.store import Store
from millstream.settings import LogSettings


class SteppedClock(VirtualClock):
    """Time passes with every look at it."""

    def now(self) -> int:
        self._now += 10
        return self._now


def make_store() -> Store:
    store = Store(open_memory(), LogSettings(), SteppedClock())
    store.create(StreamSpec("a", partitions=2))
    store.join("g", ["a"], "earliest")
    return store


def put(store: Store, partition: int, *payloads: str) -> None:
    (outcome,) = store.commit([Changes(appends=[Append("a", partition, pack(events(*payloads)))])])[0]
    assert not isinstance(outcome, Exception)


def tick(store: Store, partition: int) -> None:
    store.commit([Changes(group="g", dues=[("a", partition, store.now() - 2 * SECOND)])])
    store.tick()


def chunks(store: Store) -> int:
    return int(store.db.execute("SELECT count(*) FROM chunks").get)


def merge_all(store: Store) -> None:
    while store.housekeeper.merge():
        pass


Record = tuple[int, int, bytes | None]
"""An offset, a time, and the payload of an event."""


def records_of(batch: Batch) -> list[Record]:
    """Everything in a batch, in order."""
    columns = batch.events
    times = columns.column("time").cast("int64").to_pylist()
    found = [*zip(columns.column("offset").to_pylist(), times, columns.column("data").to_pylist(), strict=True)]
    found += [(tick.offset, tick.time, None) for tick in batch.ticks]
    return sorted(found, key=lambda record: record[0])


def view(store: Store, partition: int, limit_bytes: int = 1 << 20) -> tuple[list[Record], Bounds]:
    """All that a reader can see of a partition."""
    cursor = Cursor("a", partition, 0)
    found: list[Record] = []
    while (piece := store.reader.read(cursor, limit_bytes)).moved:
        batch = piece.batch()
        assert batch is not None
        found += records_of(batch)
        cursor = piece.cursor
        assert cursor.events_before == sum(1 for _, _, payload in found if payload is not None)
    return found, store.reader.bounds("a", partition)


steps = st.lists(
    st.tuples(
        st.sampled_from(["event", "event", "event", "tick", "several", "large", "other"]),
        st.integers(1, 40),
    ),
    min_size=2,
    max_size=12,
)


def play(store: Store, plan: list[tuple[str, int]]) -> None:
    for number, (what, times) in enumerate(plan):
        for repeat in range(times if what in ("event", "tick", "several") else 1):
            name = f"{number}.{repeat}"
            if what == "event":
                put(store, 0, name)
            elif what == "several":
                put(store, 0, *[name] * 7)
            elif what == "tick":
                tick(store, 0)
            elif what == "large":
                put(store, 0, *[name * 20_000] * 3)
            else:
                put(store, 1, name)


@settings(max_examples=25)
@given(steps, st.integers(100, 5000), st.integers(0, 300))
def test_a_merged_partition_reads_as_before(plan: list[tuple[str, int]], limit_bytes: int, start: int) -> None:
    store = make_store()
    play(store, plan)
    before = [view(store, partition) for partition in (0, 1)]
    records = before[0][0]
    merge_all(store)
    assert [view(store, partition) for partition in (0, 1)] == before
    assert view(store, 0, limit_bytes) == before[0]
    tail = store.reader.read(Cursor("a", 0, start), 1 << 30).batch()
    assert (records_of(tail) if tail is not None else []) == [record for record in records if record[0] >= start]
    for _, time, _ in records[::7]:
        assert store.reader.offset_at("a", 0, time) == min(offset for offset, at, _ in records if at >= time)
    reopened = Store(store.db, LogSettings(), SteppedClock())
    merge_all(reopened)
    assert view(reopened, 0) == before[0]


def test_a_quiet_month_is_few_chunks() -> None:
    """Events and ticks one by one, and no chunk is left small but the last ones."""
    store = make_store()
    for number in range(64 * 64 + 100):
        if number % 2:
            put(store, 0, str(number))
        else:
            tick(store, 0)
        store.housekeeper.merge()
    merge_all(store)
    assert chunks(store) <= 2 * coalesce.ENOUGH + 5
    sizes = [row for (row,) in store.db.execute("SELECT records FROM chunks ORDER BY records DESC")]
    assert sizes[0] >= 64 * 64
    assert len(view(store, 0)[0]) == 64 * 64 + 100


def test_few_small_chunks_are_left_alone() -> None:
    store = make_store()
    for number in range(coalesce.ENOUGH - 1):
        put(store, 0, str(number))
    assert not store.housekeeper.merge()
    put(store, 0, "one more")
    assert store.housekeeper.merge()
    assert chunks(store) == 1
    assert not store.housekeeper.merge()


def test_large_chunks_are_never_written_again() -> None:
    store = make_store()
    for number in range(3 * coalesce.ENOUGH):
        put(store, 0, "x" * coalesce.LARGE_BYTES if number % 8 == 0 else "small")
    (before,) = store.db.execute("SELECT group_concat(id) FROM chunks WHERE size >= ?", (coalesce.LARGE_BYTES,))
    merge_all(store)
    (after,) = store.db.execute(
        "SELECT group_concat(id) FROM chunks WHERE size >= ? AND codec = 1", (coalesce.LARGE_BYTES,)
    )
    assert after == before
    assert chunks(store) <= 2 * 3 * coalesce.ENOUGH / 8 + 8


def test_a_damaged_chunk_stays_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    store = make_store()
    for number in range(coalesce.ENOUGH):
        put(store, 0, str(number))
    store.db.execute("UPDATE chunks SET checksum = checksum + 1 WHERE id = 5")
    merge_all(store)
    assert chunks(store) == coalesce.ENOUGH
    assert "left as they are" in caplog.text
    put(store, 0, "and on")


async def test_it_happens_by_itself() -> None:
    clock = VirtualClock()
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("a", partitions=1))
    for number in range(100):
        await append(log, "a", 0, str(number))

    async def merged() -> bool:
        return await log.core.writer.call(chunks) < coalesce.ENOUGH

    await clock.advance(1)  # it may be pausing because of the commits
    await eventually(merged)
    assert await contents(log, "a") == [str(number) for number in range(100)]
    await log.close()
