"""What was read last, for the others who are going to read it."""

from __future__ import annotations

from pathlib import Path

from tests.support.records import LIMIT, SETTINGS, append, events, payloads

from millstream.clock import SystemClock
from millstream.log import EARLIEST, StreamSpec
from millstream.log.records import Records
from millstream.log.sqlite import SqliteLog
from millstream.log.sqlite.format import pack, row_id, seal, unpack
from millstream.log.sqlite.recent import NOWHERE, Recent


def records(offset: int, *payloads: str) -> Records:
    (body,) = pack(events(*payloads))
    return unpack(seal(row_id(1, offset), len(payloads), body, None, (5, 5), offset, 0))


def texts(found: Records) -> list[str]:
    return [data.decode() for data in found.events.column("data").to_pylist()]


def test_who_is_behind_gets_what_was_read_and_need_not_look_further() -> None:
    recent = Recent()
    assert recent.split({1: 0, 2: 0}) == ([], [1, 2])
    recent.add(1, 0, [records(0, "a", "b")])
    recent.add(2, 0, [])
    assert recent.split({1: 0, 2: 0}) == ([1], [])
    assert recent.split({1: 1, 2: 0}) == ([1], [])
    assert recent.split({1: 2, 2: 0}) == ([], [1, 2])
    assert recent.split({1: 0, 2: NOWHERE, 3: 0}) == ([1], [2, 3])


def test_what_others_have_not_looked_for_since_is_looked_for() -> None:
    """Else somebody who is always a little behind in one stream would never hear of another one."""
    recent = Recent()
    assert recent.split({1: 0, 2: 0}) == ([], [1, 2])
    recent.add(1, 0, [records(0, "a")])
    recent.add(2, 0, [])
    assert recent.split({1: 1}) == ([], [1])
    recent.add(1, 1, [records(1, "b")])
    assert recent.split({1: 1, 2: 0}) == ([1], [2])
    recent.add(2, 0, [])
    assert recent.split({1: 1, 2: 0}) == ([1], [])


def test_pieces_are_put_together_once_and_given_as_the_same_object() -> None:
    recent = Recent()
    recent.split({1: 0})
    recent.add(1, 0, [records(0, "a"), records(1, "b")])
    recent.split({1: 2})
    recent.add(1, 2, [records(2, "c")])
    found = recent.take(1, 1, LIMIT)
    assert texts(found) == ["b", "c"] and found.events_before == 1
    whole = recent.take(1, 0, LIMIT)
    assert texts(whole) == ["a", "b", "c"]
    assert recent.take(1, 0, LIMIT) is whole
    assert texts(recent.take(1, 0, 1)) == ["a"]


def test_who_is_far_behind_changes_nothing_and_who_is_ahead_begins_anew() -> None:
    recent = Recent()
    recent.split({1: 5})
    recent.add(1, 5, [records(5, "f")])
    recent.add(1, 0, [records(0, "a")])
    assert recent.split({1: 0}) == ([], [1])
    assert recent.split({1: 5}) == ([1], [])
    recent.add(1, 9, [records(9, "j")])
    assert recent.split({1: 5}) == ([], [1])
    assert texts(recent.take(1, 9, LIMIT)) == ["j"]


def test_memory_is_bounded() -> None:
    recent = Recent(limit_bytes=10_000)
    for offset in range(50):
        recent.split({1: offset})
        recent.add(1, offset, [records(offset, "x")])
        assert recent._bytes <= 10_000
    assert recent.split({1: 49}) == ([1], [])
    assert recent.split({1: 40}) == ([], [1])
    recent.add(1, 50, [records(50, "x" * 20_000)])
    assert recent.split({1: 51}) == ([], [1])
    assert recent._bytes == 0
    recent.add(1, 51, [records(51, "x")])
    recent.clear()
    assert recent._bytes == 0 and recent.split({1: 51}) == ([], [1])


def test_ticks_are_records_too() -> None:
    recent = Recent()
    tick = unpack(seal(row_id(1, 0), 1, None, None, (5, 5), 0, 0))
    recent.split({1: 0})
    recent.add(1, 0, [tick])
    found = recent.take(1, 0, LIMIT)
    assert len(found) == 0 and found.tick_offsets.tolist() == [0]


async def test_members_meet_at_the_same_places_and_miss_nothing(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path, SETTINGS, SystemClock())
    try:
        await log.create(StreamSpec("s", partitions=2))
        groups = [await log.join(f"g{number}", ["s"], start=EARLIEST) for number in range(3)]
        for group in groups:
            await group.poll(LIMIT)

        async def read(number: int) -> list[str]:
            return payloads((await groups[number].poll(LIMIT, 0)).batches)

        await append(log, "s", 0, "a")
        assert await read(0) == ["a"]
        await append(log, "s", 1, "b")
        assert await read(1) == ["a"]
        assert await read(1) == ["b"]
        assert await read(0) == ["b"]
        assert await read(2) == ["a", "b"]
        assert await read(0) == []
    finally:
        await log.close()
