"""Members that want some topics only are woken for these, and pass the others by later."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.records import LIMIT, WAIT, gain, poll_events

from millstream.clock import VirtualClock
from millstream.event import Event, to_columns
from millstream.log import Group, Log, StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.log.sqlite.choosers import PASS_SECONDS, Choosers
from millstream.log.sqlite.place import Place
from millstream.testing.rest import rest
from millstream.topic import Filter, filter_matches

PLACES: list[Place] = [("a", 0), ("a", 1)]
FILTERS = ["door/+", "door/north", "#"]

topics = st.sets(st.sampled_from(["door/north", "door/south", "light/north"]))
commits = st.tuples(st.just("commit"), st.sampled_from(PLACES), st.none() | topics)
waits = st.tuples(st.just("wait"), st.sampled_from(range(len(FILTERS))), st.booleans())


@given(st.lists(commits | waits))
def test_whoever_waits_hears_of_all_that_may_be_for_him_and_of_nothing_else(steps: list[tuple[str, Any, Any]]) -> None:
    choosers = Choosers()
    ends: dict[Place, int] = dict.fromkeys(PLACES, 0)
    records: list[tuple[Place, int, set[str] | None]] = []
    waiting: dict[int, dict[Place, int]] = {}
    unseen: dict[int, int] = {}  # of each member, the records before its first wait: nobody has looked at these

    def is_for(member: int, its: set[str] | None) -> bool:
        return its is None or any(filter_matches(FILTERS[member], topic) for topic in its)

    for step, what, which in steps:
        if step == "commit":
            its = None if which is None else set(which)
            ends[what] += 1
            records.append((what, ends[what], its))
            concerned = choosers.came(what, ends[what], its)
            assert concerned == {member for member in waiting if is_for(member, its)}
        else:
            offsets = dict(ends) if which else waiting.get(what, dict.fromkeys(PLACES, 0))
            unseen.setdefault(what, len(records))
            may_be = any(
                end > offsets[place] and (number < unseen[what] or is_for(what, its))
                for number, (place, end, its) in enumerate(records)
            )
            assert choosers.wait(what, FILTERS[what], offsets, ends) == may_be
            waiting[what] = offsets
    assert set(choosers.behind(ends)) == {member for member, offsets in waiting.items() if offsets != ends}
    for member in waiting:
        choosers.leave(member)
    assert not choosers
    assert choosers.came(PLACES[0], 1, None) == set()


async def test_a_commit_on_other_topics_wakes_nobody_until_there_are_many_to_pass_by() -> None:
    clock = VirtualClock()
    log, doors = await doors_of(clock, "door/{name}")
    polling = asyncio.ensure_future(doors.poll(LIMIT))
    await at_rest(log)
    for _ in range(3):
        await publish(log, "light/north")
        await at_rest(log)
        assert not polling.done()
    await publish(log, "door/north")
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert [event.topic for event in batch] == ["door/north"]
    assert batch.next_offset == 4

    polling = asyncio.ensure_future(doors.poll(LIMIT))
    await at_rest(log)
    await publish(log, "light/north")
    await publish(log, *["light/south"] * 2)
    await at_rest(log)
    assert not polling.done()
    await clock.advance(PASS_SECONDS)
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert (len(batch), batch.next_offset) == (0, 7)

    await publish(log, *["light/north", "light/south"] * 500)  # too many to be looked at
    (batch,) = (await asyncio.wait_for(doors.poll(LIMIT), WAIT)).batches
    assert (len(batch), batch.next_offset) == (0, 1007)
    await log.close()


async def test_who_has_passed_all_by_does_not_read_before_it_is_woken() -> None:
    clock = VirtualClock()
    log, doors = await doors_of(clock, "door/{name}")
    polling = asyncio.ensure_future(doors.poll(LIMIT))
    await at_rest(log)
    await publish(log, "light/north")
    await clock.advance(PASS_SECONDS)
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert (len(batch), batch.next_offset) == (0, 1)

    await publish(log, "light/north")
    polling = asyncio.ensure_future(doors.poll(LIMIT))
    await at_rest(log)
    assert not polling.done()
    await publish(log, "door/north")
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert ([event.topic for event in batch], batch.next_offset) == (["door/north"], 3)
    await log.close()


async def test_a_stream_that_is_made_again_is_read_from_its_beginning() -> None:
    clock = VirtualClock()
    log, doors = await doors_of(clock, "door/+")
    for _ in range(5):
        await publish(log, "door/north")
    await poll_events(doors)
    polling = asyncio.ensure_future(doors.poll(LIMIT))
    await at_rest(log)
    await log.drop("a")
    await log.create(StreamSpec("a", partitions=2))
    await at_rest(log)
    await publish(log, "door/south")
    (batch,) = (await asyncio.wait_for(polling, WAIT)).batches
    assert [event.topic for event in batch] == ["door/south"]
    await log.close()


async def doors_of(clock: VirtualClock, wanted: str) -> tuple[SqliteLog, Group]:
    """A log with a stream, and a member of a group that wants these topics of it."""
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("a", partitions=2))
    doors = await log.join("doors", ["a"], topics=Filter.parse(wanted))
    await gain(doors)
    return log, doors


async def at_rest(log: SqliteLog) -> None:
    """Return when nothing is left to do before time passes."""
    await rest()
    while log.is_busy:
        await log.drain()
        await rest()


async def publish(log: Log, *names: str) -> None:
    transaction = log.transaction()
    transaction.append("a", 0, to_columns(Event(topic=name, key="k", payload=b"{}") for name in names))
    await transaction.commit()
