"""Workers that are killed, at any moment, and started again from the last commit."""

from __future__ import annotations

import asyncio

import pytest

from millstream.app import App
from millstream.event import Event


def passing_app() -> tuple[App, list[int]]:
    app, calls = App("plant", catch_all=False), list[int]()
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")
    app.stream("doubled", topics="doubled/#")

    @app.on(numbers, into="doubled")
    def double(data: int) -> int:
        calls.append(data)
        return 2 * data

    app.query("sums", "SELECT device, count(*) AS n FROM numbers GROUP BY device, TumblingWindow(second, 10)")
    return app, calls


def data(events: list[Event]) -> list[object]:
    return [event.data for event in events]


async def test_what_was_committed_is_not_done_again() -> None:
    app, calls = passing_app()
    async with app.test(raise_errors=False) as plant:
        await plant.publish("numbers/a", 1)
        await plant.crash()
        await plant.publish("numbers/a", 2)
        assert calls == [1, 2]
        assert data(plant.stream("doubled")) == [2, 4]


async def test_what_was_not_committed_is_done_again_and_comes_out_once() -> None:
    app, calls = passing_app()
    async with app.test(raise_errors=False) as plant:
        await plant.crash("before commit")
        await plant.publish("numbers/a", 1)
        assert calls == [1, 1]
        assert data(plant.stream("doubled")) == [2]
        assert plant.counts("double") == {"processed": 1}


async def test_what_was_committed_without_its_workers_knowledge_is_not_done_again() -> None:
    app, calls = passing_app()
    async with app.test(raise_errors=False) as plant:
        await plant.crash("after commit")
        await plant.publish("numbers/a", 1)
        assert len(calls) in (1, 2)  # the worker dies at the first commit, of the handler or of the query
        assert data(plant.stream("doubled")) == [2]
        assert plant.counts("double") == {"processed": 1}


async def test_call_under_way_is_ended_and_repeated() -> None:
    app, calls = App("plant"), list[str]()
    started, forever = asyncio.Event(), asyncio.Event()

    @app.on("t")
    async def handle(event: Event) -> None:
        calls.append("begun")
        started.set()
        try:
            await forever.wait()
        except asyncio.CancelledError:
            calls.append("ended")
            forever.set()
            raise

    async with app.test() as plant:
        publishing = asyncio.create_task(plant.publish("t", 1))
        await started.wait()
        await plant.crash()
        await publishing
        assert calls == ["begun", "ended", "begun"]
        assert plant.counts("handle") == {"processed": 1}


async def test_windows_go_on_from_the_last_commit() -> None:
    app, _ = passing_app()
    async with app.test(raise_errors=False) as plant:
        await plant.publish("numbers/a", {"n": 1})
        await plant.crash()
        await plant.publish("numbers/a", {"n": 2})
        await plant.advance("30s")
        assert data(plant.stream("sums")) == [{"device": "a", "n": 2}]


async def test_other_instance_takes_over_when_one_is_killed() -> None:
    app, calls = passing_app()
    async with app.test(workers=2, raise_errors=False) as plant:
        await plant.crash("before commit", worker=0)
        for number in range(10):
            await plant.publish(f"numbers/{number}", number)
        assert sorted(set(calls)) == list(range(10))
        assert sorted(map(int, map(str, data(plant.stream("doubled"))))) == [2 * number for number in range(10)]
        assert plant.group("double").members == 2


async def test_crash_that_never_came_is_told() -> None:
    app, _ = passing_app()
    with pytest.raises(AssertionError, match="has not committed"):
        async with app.test() as plant:
            await plant.crash("before commit")


async def test_wrong_moment_and_no_workers_are_refused() -> None:
    app, _ = passing_app()
    async with app.test() as plant:
        with pytest.raises(ValueError, match=r"'commit' is no moment .*'before commit'"):
            await plant.crash("commit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="workers=0"):
        app.test(workers=0)
