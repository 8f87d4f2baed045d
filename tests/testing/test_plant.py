"""What happens to a plant, and what a test sees of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from millstream.app import App, Retry
from millstream.errors import LogError, MillstreamError, TopicError, UnknownStreamError
from millstream.event import Event
from millstream.testing import Plant

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Reading(msgspec.Struct):
    celsius: float


def counting_app() -> tuple[App, list[str]]:
    """An app whose handler notes the devices that it is called with, and passes the events on."""
    app, seen = App("plant"), list[str]()
    readings = app.stream("readings", topics="site/{site}/{device}/telemetry", key="device")

    @app.on(readings, into="checked/{device}")
    def check(reading: Reading, device: str) -> dict[str, float]:
        seen.append(device)
        return {"celsius": reading.celsius}

    return app, seen


def alerting_app() -> App:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.query(
        "overheating",
        """SELECT device, count(*) AS n, System.Timestamp() AS window_end FROM telemetry TIMESTAMP BY ts
        GROUP BY device, TumblingWindow(second, 10) HAVING max(celsius) > 80""",
        into="alerts",
    )
    return app


def reading(second: int, celsius: float = 91) -> dict[str, object]:
    return {"ts": f"2026-01-01T00:00:{second:02}Z", "celsius": celsius}


async def test_everything_that_follows_from_a_publish_has_happened_when_it_returns() -> None:
    app, seen = counting_app()
    async with app.test() as plant:
        assert await plant.publish("site/a/press-1/telemetry", {"celsius": 20})
        assert seen == ["press-1"]
        assert [event.data for event in plant.stream("readings")] == [{"celsius": 20}]
        assert [(event.topic, event.data) for event in plant.stream("events")] == [
            ("site/a/press-1/telemetry", {"celsius": 20}),
            ("checked/press-1", {"celsius": 20}),
        ]
        assert plant.counts("check") == {"processed": 1}
        assert not any(plant.group("check").lag.values())


async def test_event_keeps_its_attributes_and_has_the_plants_time() -> None:
    async with App("plant").test(start=BEGIN + timedelta(days=59)) as plant:
        await plant.advance("1h")
        await plant.publish(
            "a/b", "warm", id="7", key="k", type="com.example.note", headers={"unit": "°C"}, content_type="text/plain"
        )
        (event,) = plant.stream("events")
        assert (event.id, event.key, event.type, event.headers) == ("7", "k", "com.example.note", {"unit": "°C"})
        assert (event.data, event.time) == ("warm", plant.now)
        assert plant.now == BEGIN + timedelta(days=59, hours=1)


async def test_event_of_an_id_is_taken_once_within_the_window() -> None:
    async with App("plant").test() as plant:
        assert await plant.publish("a", 1, id="7")
        assert not await plant.publish("a", 1, id="7")
        await plant.advance("10min")
        assert await plant.publish("a", 1, id="7")
        assert len(plant.stream("events")) == 2


async def test_window_closes_when_time_passes_and_not_before() -> None:
    async with alerting_app().test() as plant:
        await plant.publish("site/a/press-1/telemetry", reading(5))  # its device's clock is 5 s ahead
        await plant.advance("14s")
        assert plant.alerts == []
        await plant.advance("1s")
        assert [event.data for event in plant.alerts] == [
            {"device": "press-1", "n": 1, "window_end": "2026-01-01T00:00:10Z"}
        ]
        assert plant.alerts[0].time == BEGIN + timedelta(seconds=15)


async def test_what_falls_due_on_the_way_happens_at_its_own_time() -> None:
    async with alerting_app().test() as plant:
        await plant.publish("site/a/press-1/telemetry", reading(5))
        await plant.advance("24h")
        assert plant.alerts[0].time == BEGIN + timedelta(seconds=15)
        assert plant.now == BEGIN + timedelta(days=1)


async def test_late_event_is_kept_aside_and_counted() -> None:
    async with alerting_app().test() as plant:
        await plant.publish("site/a/press-1/telemetry", reading(5))
        await plant.publish("site/a/press-1/telemetry", reading(25))
        await plant.publish("site/a/press-1/telemetry", reading(6))
        assert [event.data for event in plant.late("overheating")] == [reading(6)]
        assert plant.counts("overheating")["late"] == 1
        assert len(plant.alerts) == 1


async def test_plain_subscribers_see_what_is_published_and_what_handlers_publish() -> None:
    app, _ = counting_app()
    async with app.test() as plant:
        await plant.publish("site/a/press-1/telemetry", {"celsius": 20})
        assert [event.topic for event in plant.published()] == ["site/a/press-1/telemetry", "checked/press-1"]
        assert [event.data for event in plant.published("checked/+")] == [{"celsius": 20}]


async def test_topic_that_no_stream_captures_reaches_subscribers_only() -> None:
    app = App("plant", catch_all=False)
    got: list[int] = []

    @app.subscribe("a/{n}")
    async def note(n: int) -> None:
        got.append(n)

    async with app.test() as plant:
        await plant.publish("a/7", b"")
        assert got == [7]
        assert len(plant.published("a/+")) == 1
        assert plant.stream("$deadletters") == []


async def test_wrong_topic_and_unknown_names_are_refused_with_what_there_is() -> None:
    app, _ = counting_app()
    async with app.test() as plant:
        with pytest.raises(TopicError):
            await plant.publish("site/+/telemetry", 1)
        with pytest.raises(UnknownStreamError, match=r"no stream 'reading'; the app has .*readings"):
            plant.stream("reading")
        with pytest.raises(LogError, match=r"no group 'chek'; the app has .*check"):
            plant.counts("chek")


async def test_group_is_found_by_the_end_of_its_name_unless_several_have_it() -> None:
    app = App("plant")
    for group in ("a.check", "b.check"):
        app.on("t", group=group)(_ignore)
    async with app.test() as plant:
        await plant.publish("t", 1)
        assert plant.counts("a.check") == {"processed": 1}
        with pytest.raises(LogError, match="several groups 'check'"):
            plant.counts("check")


async def _ignore(event: Event) -> None: ...


async def test_plants_of_one_app_know_nothing_of_each_other() -> None:
    app, _ = counting_app()
    async with app.test() as one, app.test() as other:
        await asyncio.gather(
            one.publish("site/a/press-1/telemetry", {"celsius": 1}),
            other.publish("site/a/press-2/telemetry", {"celsius": 2}),
        )
        await other.advance("1h")
        assert [event.data for event in one.stream("readings")] == [{"celsius": 1}]
        assert [event.data for event in other.stream("readings")] == [{"celsius": 2}]
        assert other.now - one.now == timedelta(hours=1)


async def test_instances_share_the_partitions_and_process_each_event_once() -> None:
    app, seen = counting_app()
    devices = [f"press-{number}" for number in range(20)]
    async with app.test(workers=2) as plant:
        assert plant.group("check").members == 2
        await asyncio.gather(*(plant.publish(f"site/a/{device}/telemetry", {"celsius": 1}) for device in devices))
        assert sorted(seen) == sorted(devices)
        assert plant.counts("check") == {"processed": 20}


async def test_many_publishes_at_once_are_all_there() -> None:
    app, seen = counting_app()
    async with app.test() as plant:
        await asyncio.gather(*(plant.publish(f"site/a/press-{n}/telemetry", {"celsius": n}) for n in range(300)))
        assert len(plant.stream("readings")) == len(seen) == len(plant.published("checked/#")) == 300


@pytest.fixture
async def running() -> AsyncIterator[Plant]:
    async with counting_app()[0].test() as plant:
        yield plant


async def test_plant_may_be_a_fixture(running: Plant) -> None:
    await running.publish("site/a/press-1/telemetry", {"celsius": 20})
    await running.advance("1s")
    assert running.counts("check") == {"processed": 1}


async def test_retry_waits_for_the_plants_time() -> None:
    app, tries = App("plant"), list[datetime]()

    @app.on("t", retry=Retry(attempts=3, delay=timedelta(seconds=10)))
    def fail(event: Event) -> None:
        tries.append(plant.now)
        raise OSError("no")

    async with app.test(raise_errors=False) as plant:
        await plant.publish("t", 1)
        await plant.advance("10s")
        assert plant.dead_letters == []
        await plant.advance("20s")
        assert [(at - tries[0]).total_seconds() for at in tries] == [0, 10, 30]
        assert [letter.headers["dead-letter-attempts"] for letter in plant.dead_letters] == ["3"]


async def test_app_that_is_wrong_is_told_when_the_test_begins() -> None:
    app = App("plant")
    app.query("q", "SELECT nonsense FROM nowhere")
    with pytest.raises(Exception, match="query 'q'"):
        async with app.test():
            pass
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_nothing_is_left_behind() -> None:
    app, _ = counting_app()
    async with app.test(workers=2) as plant:
        await plant.publish("site/a/press-1/telemetry", {"celsius": 20})
        await plant.crash()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_plant_that_does_not_run_says_how_it_would_and_one_that_has_ended_still_tells() -> None:
    plant = App("plant").test()
    with pytest.raises(MillstreamError, match=r"async with app\.test\(\) as plant:"):
        await plant.publish("a", 1)
    async with plant:
        await plant.publish("a", 1)
    assert [event.data for event in plant.stream("events")] == [1]
