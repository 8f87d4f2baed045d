"""Transactions: all or nothing, in the order of their commits."""

from __future__ import annotations

import asyncio

import pytest
from tests.log.conftest import AnotherLog
from tests.support.records import append, contents, events, gain, offsets

from millstream.errors import FencedError, LogError, UnknownStreamError
from millstream.log import EARLIEST, Group, Log, Position, StreamSpec
from millstream.log.contract import MAX_CHUNK_BYTES


@pytest.fixture
async def group(log: Log) -> Group:
    await log.create(StreamSpec("in", partitions=2))
    await log.create(StreamSpec("out", partitions=2))
    await append(log, "in", 0, "a", "b", "c", "d", "e")
    group = await log.join("g", ["in"], start=EARLIEST)
    await gain(group)
    return group


async def status(log: Log, group: str) -> tuple[dict[tuple[str, int], Position], dict[str, int]]:
    (found,) = [each for each in await log.groups() if each.name == group]
    return dict(found.positions), dict(found.counts)


async def test_everything_in_a_transaction_commits_together(log: Log, group: Group) -> None:
    transaction = group.transaction()
    transaction.append("out", 0, events("x", "y"))
    transaction.append("out", 1, events("z"))
    transaction.append("out", 0, events("w"))
    transaction.save(0, "one", b"1")
    transaction.save(0, "two", b"2")
    transaction.save(1, "one", b"other")
    transaction.position("in", 0, Position(2, (4,)))
    transaction.count("processed", 2)
    transaction.count("processed", 1)
    transaction.count("late", 1)
    committed = await transaction.commit()
    zero, one = await offsets(log, "out", 0), await offsets(log, "out", 1)
    assert committed.first_offsets == (zero[0], one[0], zero[2])
    assert await contents(log, "out", 0) == ["x", "y", "w"]
    assert await contents(log, "out", 1) == ["z"]
    assert list((await group.state(0)).items()) == [("one", b"1"), ("two", b"2")]
    assert dict(await group.state(1)) == {"one": b"other"}
    assert list((await log.state("g", 0)).items()) == [("one", b"1"), ("two", b"2")]
    assert dict(await log.state("nobody", 0)) == {}
    assert await status(log, "g") == (
        {("in", 0): Position(2, (4,)), ("in", 1): Position(0)},
        {"processed": 3, "late": 1},
    )


@pytest.mark.parametrize("wrong", ["unknown stream", "position back", "position beyond the end", "no such partition"])
async def test_one_wrong_change_undoes_them_all(log: Log, group: Group, wrong: str) -> None:
    first = group.transaction()
    first.position("in", 0, Position(2))
    await first.commit()
    transaction = group.transaction()
    transaction.append("out", 0, events("x"))
    transaction.save(0, "one", b"1")
    transaction.count("processed", 1)
    transaction.position("in", 1, Position(0, ()))
    if wrong == "unknown stream":
        transaction.append("none", 0, events("x"))
    elif wrong == "position back":
        transaction.position("in", 0, Position(1))
    elif wrong == "position beyond the end":
        transaction.position("in", 0, Position((await log.bounds("in", 0)).next + 1))
    else:
        transaction.append("out", 2, events("x"))
    with pytest.raises(UnknownStreamError if wrong == "unknown stream" else LogError):
        await transaction.commit()
    assert await contents(log, "out") == []
    assert dict(await group.state(0)) == {}
    assert await status(log, "g") == ({("in", 0): Position(2), ("in", 1): Position(0)}, {})


async def test_a_wrong_transaction_does_not_harm_its_neighbours(log: Log, group: Group) -> None:
    good = [append(log, "out", 0, str(number)) for number in range(5)]
    bad = [append(log, "none", 0, "x") for _ in range(5)]
    mixed = [each for pair in zip(good, bad, strict=True) for each in pair]
    results = await asyncio.gather(*mixed, return_exceptions=True)
    assert all(isinstance(result, UnknownStreamError) for result in results[1::2])
    assert await contents(log, "out") == ["0", "1", "2", "3", "4"]


async def test_commits_resolve_in_their_order(log: Log, group: Group) -> None:
    done: list[int] = []

    async def commit(number: int) -> None:
        transaction = group.transaction()
        transaction.append("out", number % 2, events(*["x"] * (1 + 500 * (number % 3))))
        transaction.save(0, "last", b"%d" % number)
        await transaction.commit()
        done.append(number)

    await asyncio.gather(*(commit(number) for number in range(30)))
    assert done == list(range(30))
    assert dict(await group.state(0)) == {"last": b"29"}


async def test_a_chunk_is_replaced_and_dropped(log: Log, group: Group) -> None:
    for changes in ({"a": b"1", "b": b"1"}, {"a": b"2", "c": b""}):
        transaction = group.transaction()
        for name, chunk in changes.items():
            transaction.save(0, name, chunk)
        await transaction.commit()
    assert dict(await group.state(0)) == {"a": b"2", "b": b"1", "c": b""}
    transaction = group.transaction()
    transaction.drop(0, "a")
    transaction.drop(0, "was never there")
    transaction.save(0, "b", b"gone")
    transaction.drop(0, "b")
    await transaction.commit()
    assert dict(await group.state(0)) == {"c": b""}


async def test_a_chunk_has_a_largest_size(log: Log, group: Group) -> None:
    largest = bytes(range(256)) * (MAX_CHUNK_BYTES // 256)
    transaction = group.transaction()
    transaction.save(0, "large", largest)
    with pytest.raises(ValueError, match="split it"):
        transaction.save(0, "larger", largest + b"x")
    await transaction.commit()
    assert dict(await group.state(0)) == {"large": largest}


async def test_a_transaction_is_committed_once(log: Log, group: Group) -> None:
    transaction = group.transaction()
    transaction.append("out", 0, events("x"))
    await transaction.commit()
    with pytest.raises(LogError, match="committed"):
        await transaction.commit()
    assert await contents(log, "out") == ["x"]


async def test_without_a_group_there_is_no_state(log: Log) -> None:
    transaction = log.transaction()
    with pytest.raises(LogError, match="only a group's transaction"):
        transaction.save(0, "a", b"")
    with pytest.raises(LogError, match="only a group's transaction"):
        transaction.drop(0, "a")
    with pytest.raises(LogError, match="only a group's transaction"):
        transaction.position("in", 0, Position(0))
    with pytest.raises(LogError, match="only a group's transaction"):
        transaction.due("in", 0, None)


async def test_groups_do_not_see_each_other(log: Log, group: Group) -> None:
    other = await log.join("h", ["in"], start=EARLIEST)
    await gain(other)
    for each, value in ((group, b"g"), (other, b"h")):
        transaction = each.transaction()
        transaction.save(0, "x", value)
        transaction.position("in", 0, Position(1 if each is group else 3))
        transaction.count("n", 1 if each is group else 3)
        await transaction.commit()
    assert (await group.state(0), await other.state(0)) == ({"x": b"g"}, {"x": b"h"})
    assert (await status(log, "g"))[0]["in", 0] == Position(1)
    assert await status(log, "h") == ({("in", 0): Position(3), ("in", 1): Position(0)}, {"n": 3})


async def test_a_group_without_streams_keeps_state(another_log: AnotherLog) -> None:
    log = await another_log()
    await log.create(StreamSpec("out", partitions=1))
    group = await log.join("dedup", [])
    assert await gain(group) == {0: {}}
    transaction = group.transaction()
    transaction.append("out", 0, events("x"))
    transaction.save(0, "ids", b"abc")
    await transaction.commit()
    await group.leave()
    again = await (await another_log()).join("dedup", [])
    assert await gain(again) == {0: {}}
    assert dict(await again.state(0)) == {"ids": b"abc"}
    assert await contents(log, "out") == ["x"]


async def test_what_is_not_owned_cannot_be_committed(log: Log, group: Group) -> None:
    other = await log.join("g", ["in"])
    for commit in ("state", "position", "due"):
        transaction = other.transaction()
        transaction.append("out", 0, events("x"))
        if commit == "state":
            transaction.save(0, "a", b"")
        elif commit == "position":
            transaction.position("in", 0, Position(1))
        else:
            transaction.due("in", 0, 1)
        with pytest.raises(FencedError):
            await transaction.commit()
    assert await contents(log, "out") == []


async def test_events_are_shown_when_they_are_committed_in_the_order_of_commits(log: Log, shown: list[str]) -> None:
    await log.create(StreamSpec("out"))
    transactions = [log.transaction() for _ in range(20)]
    for number, transaction in enumerate(transactions):
        transaction.append("out", number % 8, events(f"kept {number}"))
        transaction.show(events(f"{number} a", f"{number} b"))
        transaction.show(events(f"{number} c"))
    assert shown == []
    await asyncio.gather(*(transaction.commit() for transaction in transactions))
    assert shown == [f"{number} {letter}" for number in range(20) for letter in "abc"]


async def test_batches_that_are_appended_can_be_shown_as_they_are(log: Log, shown: list[str]) -> None:
    await log.create(StreamSpec("out"))
    transaction = log.transaction()
    first, second, none = events("a", "b"), events("c"), events()
    for partition, batch in enumerate((first, none, second)):
        transaction.append("out", partition, batch)
    for batch in (second, events("apart"), none, first):
        transaction.show(batch)
    await transaction.commit()
    assert shown == ["c", "apart", "a", "b"]


async def test_what_is_not_committed_is_not_shown(log: Log, shown: list[str]) -> None:
    transaction = log.transaction()
    transaction.append("none", 0, events("x"))
    transaction.show(events("x"))
    with pytest.raises(UnknownStreamError):
        await transaction.commit()
    assert shown == []


async def test_what_is_committed_is_shown_even_if_the_caller_has_gone(log: Log, shown: list[str]) -> None:
    await log.create(StreamSpec("out"))
    transaction = log.transaction()
    transaction.append("out", 0, events("x"))
    transaction.show(events("x"))
    committing = asyncio.create_task(transaction.commit())
    await asyncio.sleep(0)  # it has begun
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    await append(log, "out", 0, "y")  # behind it
    assert [*shown, "y"] == await contents(log, "out", 0)  # both or neither: it may not have left in time
