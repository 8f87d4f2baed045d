"""An event's way is put together from what the log holds."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.deadletters import Desk, failing, found, settled
from tests.support.plant import Plant
from tests.support.streams import publish

from millstream.app import App
from millstream.event import Event
from millstream.ledger.deadletters import Operator
from millstream.ledger.report import report
from millstream.ledger.resets import reset_event
from millstream.ledger.scan import batches, events, ranges
from millstream.ledger.trace import COMPLETED, NOT_READ, PENDING, Trace, find, trace


def states(way: Trace) -> dict[str, str]:
    """What became of an event, by group."""
    return {outcome.group: outcome.state for copy in way.copies for outcome in copy.outcomes}


async def traced(plant: Plant, what: str) -> Trace:
    (event,) = await find(plant.log, what, None)
    return await trace(plant.log, event)


async def order(plant: Plant, event_id: str, n: int) -> None:
    await publish(plant.log, [Event(topic="orders/9", payload=b'{"n": %d}' % n, id=event_id)])


async def test_an_event_is_the_same_in_every_stream_and_has_its_fate_in_each(plant: Plant) -> None:
    await failing(plant)
    await order(plant, "e-7", 7)
    await settled(plant)
    way = await traced(plant, "e-7")
    assert sorted(str(copy.event.stream) for copy in way.copies) == ["events", "orders"]
    assert states(way) == {"audit": COMPLETED, "book": "dead-lettered", "counted": COMPLETED, "elsewhere": COMPLETED}
    (book,) = [outcome for copy in way.copies for outcome in copy.outcomes if outcome.group == "book"]
    assert book.why == "ValueError: 7 is odd (open)"
    assert book.kept is not None
    letter = await traced(plant, book.kept)
    assert letter.made_from in [copy.event.position for copy in way.copies]


async def test_of_two_equal_events_each_is_found(plant: Plant) -> None:
    desk = Desk()
    await plant.start(desk.app)
    for _ in range(2):
        await order(plant, "twice", 2)
        await plant.clock.advance(1)
    assert len(await find(plant.log, "twice", None)) == 2
    assert len(await find(plant.log, "twice", plant.clock.now() - 1_500_000)) == 1
    assert await find(plant.log, "twice", plant.clock.now()) == []


async def test_what_is_not_processed_yet_is_pending_and_what_came_before_a_group_is_not_read(plant: Plant) -> None:
    early, late = App("early"), App("late")

    @early.on("orders/#", group="sleeper", start="earliest")
    async def sleeper(data: dict[str, Any]) -> None: ...

    @late.on("orders/#", group="latecomer")
    async def latecomer(data: dict[str, Any]) -> None: ...

    await plant.stop(await plant.start(early))
    await order(plant, "e-1", 1)
    await plant.stop(await plant.start(late))
    assert states(await traced(plant, "e-1")) == {"sleeper": PENDING, "latecomer": NOT_READ}
    await plant.start(early)
    await plant.caught_up("sleeper")
    assert states(await traced(plant, "e-1")) == {"sleeper": COMPLETED, "latecomer": NOT_READ}


async def test_what_is_sent_again_leads_from_one_to_the_other(plant: Plant) -> None:
    desk = await failing(plant)
    (first, _) = await found(plant)
    desk.mended = True
    async with Operator.at_work(plant.log) as operator:
        await operator.resend([first])
    await settled(plant)
    way = await traced(plant, first.origin)
    (position,) = way.sent_again
    again = await traced(plant, position)
    assert again.made_from == first.origin
    assert {name: state for name, state in states(again).items() if name in ("audit", "book", "counted")} == {
        "audit": "skipped",
        "book": COMPLETED,
        "counted": "skipped",
    }
    (book,) = [outcome for copy in way.copies for outcome in copy.outcomes if outcome.group == "book"]
    assert book.why == "ValueError: 1 is odd (resent to book)"


@pytest.mark.parametrize("what", ["nobody", "orders:0:99", "orders:99:0", "nothing:0:0", "orders:0"])
async def test_what_is_not_there_is_not_found(plant: Plant, what: str) -> None:
    await failing(plant)
    assert await find(plant.log, what, None) == []


async def test_progress_goes_to_the_end(plant: Plant) -> None:
    await failing(plant)
    told: list[tuple[int, int]] = []
    await find(plant.log, "nobody", None, lambda read, of: told.append((read, of)))
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


async def test_what_is_committed_while_one_reads_is_not_read(plant: Plant) -> None:
    await failing(plant)
    pieces = await ranges(plant.log, "orders")
    await order(plant, "new", 2)
    read = [event for piece in pieces async for batch in batches(plant.log, piece) for event in batch]
    assert len(read) == 5
    assert "new" not in [event.id for event in read]
    assert [event async for event in events(plant.log, "there is none")] == []


async def test_the_report_says_how_many_dead_letters_are_open(plant: Plant) -> None:
    desk = await failing(plant)
    desk.mended = True
    (first, _) = await found(plant)
    async with Operator.at_work(plant.log) as operator:
        await operator.resend([first])
    await settled(plant)
    row = await report(plant.log, None, 10)
    assert row.balanced
    (aside,) = row.dead_letters
    assert (aside.group, aside.kind, aside.events, aside.open) == ("book", "ValueError", 2, 1)
    assert aside.first <= aside.last
    assert row.gateway.received == 0, "what is appended directly does not come by the gateway"


async def test_a_reset_is_told_to_be_one(plant: Plant) -> None:
    await failing(plant)
    async with Operator.at_work(plant.log) as operator:
        (position,) = await operator.reset([("orders", 0, reset_event("counted", "orders", 0, "9"))])
    await settled(plant)
    way = await traced(plant, position)
    assert way.made_from is None
    (copy,) = way.copies
    assert {outcome.group: outcome.why for outcome in copy.outcomes} == {
        "counted": "the key '9' began anew",
        "book": "it had a key of counted begin anew",
        "audit": "it had a key of counted begin anew",
    }
