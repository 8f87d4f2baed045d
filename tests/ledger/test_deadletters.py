"""Dead letters: found, sent again to whom they are for and to nobody else, or given up; all of it in the log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.deadletters import failing, found, settled
from tests.support.plant import Plant, numbers
from tests.support.records import SETTINGS
from tests.support.streams import make_batch, publish, read_all

from millstream.clock import VirtualClock, to_micros
from millstream.errors import DeadLetterError, LogUnavailableError
from millstream.event import RESEND_GROUP, Batch, Event
from millstream.ledger import RESEND_OF, RESOLVED
from millstream.ledger.deadletters import Operator, find, letters, resolutions
from millstream.log.sqlite import ReadOnlyLog, SqliteLog
from millstream.worker.addressed import addressed


async def test_dead_letters_tell_what_happened_and_are_found(plant: Plant) -> None:
    await failing(plant)
    first, second = await found(plant)
    assert (first.group, first.topic, first.attempts) == ("book", "orders/1", 1)
    assert first.reason == "the handler failed after 1 try"
    assert first.error == "ValueError: 1 is odd"
    assert first.event.data == {"n": 1}
    assert dict(first.headers) == {}
    assert (await plant.read("orders"))[int(first.origin.rpartition(":")[2])].data is not None
    assert (await find(plant.log, first.name)).event == first.event
    assert (await find(plant.log, f"$deadletters:{second.name}")).event == second.event
    assert [letter.name for letter in await found(plant, reason="3 is odd")] == [second.name]
    assert await found(plant, group="audit") == []
    assert await found(plant, topics="orders/2") == []
    assert len(await found(plant, topics="orders/+", group="book")) == 2
    assert len(await found(plant, since=to_micros(second.event.time))) >= 1  # type: ignore[arg-type]
    assert await found(plant, since=plant.clock.now() + 1) == []


@pytest.mark.parametrize("name", ["", "1", "a:b", "0:999", "99:0", "-1:0"])
async def test_what_is_no_dead_letter_is_not_found(plant: Plant, name: str) -> None:
    with pytest.raises(DeadLetterError):
        await find(plant.log, name)
    await failing(plant)
    with pytest.raises(DeadLetterError):
        await find(plant.log, name)


async def test_what_is_sent_again_goes_to_its_group_and_to_no_other(plant: Plant) -> None:
    desk = await failing(plant)
    desk.mended = True
    desk.booked.clear()
    async with Operator.at_work(plant.log) as operator:
        await operator.resend(await found(plant))
    await settled(plant)
    assert [event.data["n"] for event in desk.booked] == [1, 3], "in their order"
    assert [event.headers[RESEND_GROUP] for event in desk.booked] == ["book", "book"]
    assert all(event.headers[RESEND_OF].startswith(f"orders:{event.partition}:") for event in desk.booked)
    assert sorted(event.data["n"] for event in desk.audited) == list(range(5))
    assert sorted(event.data["n"] for event in desk.copied) == list(range(5)), "the other stream does not have it"
    assert await plant.counts("audit") == {"processed": 5, "skipped": 2}
    assert (await plant.counts("counted"))["skipped"] == 2
    assert await plant.counts("book") == {"processed": 5, "dead-lettered": 2}
    assert not [event for event in plant.topics.published if event.topic.startswith("orders")]
    assert sorted(numbers(await plant.read("copies"))) == list(range(5))
    assert (await plant.counts("x"))["processed"] == 5, "what was made of it is nobody's in particular"


async def test_what_was_done_is_kept(plant: Plant) -> None:
    await failing(plant)
    first, second = await found(plant)
    async with Operator.at_work(plant.log) as operator:
        assert operator.is_open(first)
        await operator.resend([first], payload=b'{"n": 10}')
        await operator.drop([second])
        assert not operator.is_open(first)
        for act in (operator.drop, operator.resend):
            with pytest.raises(DeadLetterError, match="resolved already"):
                await act([second])
    done = await resolutions(plant.log)
    assert (done[first.name].action, done[first.name].group, done[first.name].edited) == ("resent", "book", True)
    assert (done[second.name].action, done[second.name].group) == ("dropped", None)
    assert done[first.name].time is not None
    async with Operator.at_work(plant.log) as operator:
        assert not operator.is_open(first)
    assert dict((await plant.log.accounts()).groups["$operators"].status.counts) == {"resent": 1, "dropped": 1}
    await settled(plant)
    assert sorted(numbers(await plant.read("copies"))) == [0, 2, 4, 10]


async def test_what_fails_again_is_a_new_dead_letter(plant: Plant) -> None:
    desk = await failing(plant)
    async with Operator.at_work(plant.log) as operator:
        await operator.resend(await found(plant))
    await settled(plant)
    again = (await found(plant))[2:]
    assert [letter.event.data["n"] for letter in again] == [1, 3]
    assert [dict(letter.headers) for letter in again] == [{}, {}]
    desk.mended = True
    async with Operator.at_work(plant.log) as operator:
        await operator.resend(again)
    await settled(plant)
    assert sorted(numbers(await plant.read("copies"))) == list(range(5))


async def test_an_event_keeps_its_id_and_headers(plant: Plant) -> None:
    desk = await failing(plant)
    await publish(plant.log, [Event(topic="orders/9", payload=b'{"n": 7}', id="e-7", headers={"traceparent": "t"})])
    await settled(plant)
    (letter,) = await found(plant, topics="orders/9")
    assert dict(letter.headers) == {"traceparent": "t"}
    desk.mended = True
    async with Operator.at_work(plant.log) as operator:
        await operator.resend([letter])
    await settled(plant)
    event = desk.booked[-1]
    assert (event.id, event.topic, event.key, event.data) == ("e-7", "orders/9", "9", {"n": 7})
    assert event.headers["traceparent"] == "t"


async def test_another_group_may_get_it(plant: Plant) -> None:
    desk = await failing(plant)
    first, _ = await found(plant)
    async with Operator.at_work(plant.log) as operator:
        with pytest.raises(DeadLetterError, match="audit, book, counted"):
            await operator.resend([first], to="elsewhere")
        assert operator.is_open(first)
        await operator.resend([first], to="audit")
    await settled(plant)
    assert sorted(event.data["n"] for event in desk.audited) == [0, 1, 1, 2, 3, 4]
    assert (await plant.counts("book"))["skipped"] == 1


async def test_a_stream_that_is_gone_takes_nothing(plant: Plant) -> None:
    await failing(plant)
    for worker in list(plant.workers):
        await plant.stop(worker)
    await plant.log.drop("orders")
    async with Operator.at_work(plant.log) as operator:
        with pytest.raises(DeadLetterError, match="which is gone"):
            await operator.resend(await found(plant))
    assert await resolutions(plant.log) == {}


async def test_one_operator_works_at_a_time(plant: Plant) -> None:
    await failing(plant)
    async with Operator.at_work(plant.log):
        second = Operator.at_work(plant.log)

        async def wait() -> None:
            async with second:
                raise AssertionError("two at one desk")

        waiting = asyncio.create_task(wait())
        await plant.someone_sleeps(5.0)
        await plant.clock.advance(5.0)
        with pytest.raises(LogUnavailableError, match="another operator"):
            await waiting
    async with Operator.at_work(plant.log) as operator:
        assert operator.is_open((await found(plant))[0])


async def test_without_a_server_they_are_read_and_not_changed(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path, SETTINGS, VirtualClock())
    await log.close()
    reading = await ReadOnlyLog.open(tmp_path)
    assert [letter async for letter in letters(reading)] == []
    with pytest.raises(LogUnavailableError, match="no server runs"):
        async with Operator.at_work(reading):
            pass
    await reading.close()


def test_headers_count_only_where_they_name_the_partition() -> None:
    def events(*headers: dict[str, str]) -> list[Event]:
        return [Event(topic="t", key="k", headers=one) for one in headers]

    mine = {RESEND_GROUP: "g", RESEND_OF: "telemetry:0:7"}

    def to_others(batch: Batch, group: str) -> list[bool]:
        its = addressed(batch, group)
        assert its is None or not its.resets
        return [False] * len(batch) if its is None else its.others.tolist()

    assert addressed(make_batch(events({}, {"a": "b"})), "g") is None
    assert not any(to_others(make_batch(events({}, mine)), "g"))
    sent = make_batch(events({}, mine, {RESEND_GROUP: "g", RESEND_OF: "telemetry:00:7"}, mine))
    assert to_others(sent, "h") == [False, True, False, True]
    assert not any(to_others(make_batch(events(mine), stream="copies"), "h"))
    assert not any(to_others(make_batch(events(mine), partition=1), "h"))
    sliced = make_batch(events({}, mine, {}))
    assert addressed(replace(sliced, events=sliced.events.slice(2)), "h") is None


async def test_the_stream_of_what_was_done_captures_no_topic(plant: Plant) -> None:
    await failing(plant)
    async with Operator.at_work(plant.log):
        pass
    assert not (await plant.log.streams())[RESOLVED].topics
    assert await read_all(plant.log, RESOLVED) == []
