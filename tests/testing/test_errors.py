"""Errors of the app in the test that led to them."""

from __future__ import annotations

import asyncio
import traceback
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from millstream.app import App, Retry
from millstream.errors import PayloadError
from millstream.event import Event
from millstream.testing import EscapedError


class Reading(msgspec.Struct):
    celsius: float


def failing_app(error: BaseException, *, is_async: bool = True) -> App:
    app = App("plant")

    @app.on("t", retry=Retry(attempts=2, delay=timedelta(seconds=1)))
    async def fail(event: Event) -> None:
        raise error

    @app.on("thread")
    def fail_in_a_thread(event: Event) -> None:
        raise error

    @app.on("batch", batch=True)
    def fail_with_a_batch(events: list[Event]) -> None:
        raise error

    @app.subscribe("subscribed")
    async def fail_as_subscriber(event: Event) -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("topic", "function"),
    [
        ("t", "fail"),
        ("thread", "fail_in_a_thread"),
        ("batch", "fail_with_a_batch"),
        ("subscribed", "fail_as_subscriber"),
    ],
)
async def test_error_is_raised_where_it_was_caused_with_the_users_own_frames(topic: str, function: str) -> None:
    async with failing_app(ZeroDivisionError("boom")).test() as plant:
        with pytest.raises(ZeroDivisionError, match="boom") as raised:
            await plant.publish(topic, 1)
        frames = traceback.extract_tb(raised.value.__traceback__)
        assert frames[-1].name == function
        assert not any("worker" in frame.filename.split("millstream")[-1] for frame in frames)
        assert function in raised.value.__notes__[0]


async def test_error_of_a_later_try_is_raised_by_what_led_to_it() -> None:
    async with failing_app(ZeroDivisionError("boom")).test() as plant:
        with pytest.raises(ZeroDivisionError):
            await plant.publish("t", 1)
        with pytest.raises(ZeroDivisionError):
            await plant.advance("1s")
        assert len(plant.dead_letters) == 1
        assert [failure.then for failure in plant.errors] == [
            "tried again in 1 s (try 1 of 2)",
            "kept in the dead letters after 2 tries",
        ]


async def test_error_that_nobody_asked_for_fails_the_test_at_its_end() -> None:
    with pytest.raises(ZeroDivisionError):
        async with failing_app(ZeroDivisionError("boom")).test() as plant:
            publishing = asyncio.create_task(plant.publish("t", 1))
    assert isinstance((await asyncio.gather(publishing, return_exceptions=True))[0], bool | BaseException)


async def test_errors_that_the_test_wants_to_see_are_kept_for_it() -> None:
    async with failing_app(ZeroDivisionError("boom")).test(raise_errors=False) as plant:
        await plant.publish("t", 1)
        (failure,) = plant.errors
        assert failure.processor.endswith("fail")
        assert failure.where.startswith("events:")
        assert isinstance(failure.error, ZeroDivisionError)


async def test_further_errors_are_told_with_the_first() -> None:
    async with failing_app(ZeroDivisionError("boom")).test() as plant:
        with pytest.raises(ZeroDivisionError) as raised:
            await asyncio.gather(*(plant.publish("thread", n, key=str(n)) for n in range(10)))
        first, *others, last = raised.value.__notes__
        assert "fail_in_a_thread failed at events:" in first
        assert len(others) == 3
        assert last == "and 6 more failures; see plant.errors"
        assert len(plant.errors) == 10


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()])
async def test_what_would_end_the_test_run_is_wrapped(error: BaseException) -> None:
    async with failing_app(error).test() as plant:
        with pytest.raises(EscapedError, match="fail") as raised:
            await plant.publish("t", 1)
        assert raised.value.__cause__ is error


async def test_payload_that_does_not_fit_is_an_error_of_the_test_that_published_it() -> None:
    app = App("plant")

    @app.on("t")
    async def handle(reading: Reading) -> None: ...

    async with app.test() as plant:
        with pytest.raises(PayloadError, match="celsius"):
            await plant.publish("t", {"celcius": 20})
        assert len(plant.dead_letters) == 1


@pytest.mark.parametrize(("payload", "says"), [(b"{", "not JSON"), ({"celsius": 91}, "no time")])
async def test_event_that_a_query_cannot_read_is_one_too(payload: Any, says: str) -> None:
    app = App("plant")
    app.stream("telemetry", topics="{device}/telemetry", key="device")
    app.query(
        "hot",
        "SELECT device, max(celsius) AS c FROM telemetry TIMESTAMP BY ts GROUP BY device, TumblingWindow(second, 1)",
    )
    async with app.test() as plant:
        with pytest.raises(PayloadError, match=says):
            await plant.publish("a/telemetry", payload)
        assert [letter.headers["dead-letter-group"] for letter in plant.dead_letters] == ["hot"]


async def test_query_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("plant")
    app.stream("telemetry", topics="{device}/telemetry", key="device")
    app.query("hot", "SELECT device, max(celsius) AS c FROM telemetry GROUP BY device, TumblingWindow(second, 1)")

    def fail(self: object, batches: object) -> None:
        raise MemoryError("no more")

    async with app.test() as plant:
        with monkeypatch.context() as patched:
            patched.setattr("millstream.engine.windowed.WindowedQuery.step", fail)
            with pytest.raises(MemoryError, match="no more"):
                await plant.publish("a/telemetry", {"celsius": 20})
        await plant.advance("10s")
        assert plant.counts("hot")["processed"] == 1


async def test_error_of_the_test_itself_is_not_hidden_by_the_apps() -> None:
    async def test() -> None:
        async with failing_app(ZeroDivisionError("boom")).test() as plant:
            with pytest.raises(ZeroDivisionError):
                await plant.publish("t", 1)
            raise AssertionError("the test's own")

    with pytest.raises(AssertionError, match="the test's own"):
        await test()


async def test_what_ends_a_worker_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("millstream.worker.committer.Committer.flush", fail)
    app = App("plant")

    @app.on("t")
    async def handle(event: Event) -> None: ...

    with pytest.raises(RuntimeError, match="a bug of ours"):
        async with app.test() as plant:
            await plant.publish("t", 1)
