"""Keys that are woken at the time that their state says: once, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream import App, Clock, Depends, Event, Retry, State
from millstream.errors import AppError
from millstream.testing import Plant
from millstream.worker.wakes import Wake, Wakes


@dataclass
class Door:
    opened: int = 0


def doors(**options: Any) -> App:
    """A door that stays open for ten seconds raises an alert, and again every ten seconds. "-" has none."""
    app = App("plant")
    events = app.stream("doors", topics="hall/{hall}/{door}", key="door", partitions=4)
    app.stream("alerts", topics="alerts/#")

    def left_open(state: State[Door], hall: str, clock: Clock) -> dict[str, Any]:
        state.value.opened += 1
        if state.value.opened < 3:
            state.wake_at = clock_time(clock) + timedelta(seconds=10)
        return {"door": state.key, "hall": hall, "alerts": state.value.opened}

    @app.on(events, group="doors", into="alerts/{hall}", wake=left_open, **options)
    def moved(event: Event, state: State[Door]) -> None:
        if event.data == "open":
            assert event.time is not None
            state.wake_at = event.time + timedelta(seconds=10)
        elif event.data == "closed":
            state.clear()

    return app


def clock_time(clock: Clock) -> datetime:
    from millstream.clock import to_datetime

    return to_datetime(clock.now())


def alerts(plant: Plant) -> list[Any]:
    return [(event.topic, event.data["door"], event.data["alerts"]) for event in plant.stream("alerts")]


async def test_a_key_is_woken_at_its_time_with_the_levels_of_its_topic() -> None:
    async with doors().test() as plant:
        await plant.publish("hall/a/d1", "open")
        await plant.publish("hall/b/d2", "open")
        await plant.advance("9s")
        assert alerts(plant) == []
        await plant.advance("2s")
        assert sorted(alerts(plant)) == [("alerts/a", "d1", 1), ("alerts/b", "d2", 1)]
        assert await plant.states("doors") == {"d1": {"opened": 1}, "d2": {"opened": 1}}


async def test_a_key_is_woken_where_a_handler_takes_some_topics_of_a_stream() -> None:
    app, woken = App("plant"), list[str]()

    def wake(state: State[int]) -> None:
        woken.append(state.key)

    @app.on("doors/{door}", wake=wake)
    def moved(event: Event, state: State[int]) -> None:
        assert event.time is not None
        state.wake_at = event.time + timedelta(seconds=2)

    async with app.test() as plant:
        await plant.publish("windows/w1", 1)
        await plant.publish("doors/d1", 1)
        await plant.advance("10s")
        assert woken == ["doors/d1"]
        counts = plant.counts("moved")
        assert (counts["processed"], counts["skipped"], counts["woken"]) == (1, 1, 1)


async def test_it_may_ask_again() -> None:
    async with doors().test() as plant:
        await plant.publish("hall/a/d1", "open")
        await plant.advance("1m")
        assert alerts(plant) == [("alerts/a", "d1", n) for n in (1, 2, 3)]


async def test_an_event_before_changes_its_mind() -> None:
    async with doors().test() as plant:
        await plant.publish("hall/a/d1", "open")
        await plant.publish("hall/a/d2", "open")
        await plant.advance("5s")
        await plant.publish("hall/a/d1", "closed")
        await plant.publish("hall/a/d2", "open")
        await plant.advance("6s")
        assert alerts(plant) == []
        await plant.advance("5s")
        assert alerts(plant) == [("alerts/a", "d2", 1)]


async def test_an_event_that_does_not_mind_leaves_it_as_it_is() -> None:
    async with doors().test() as plant:
        await plant.publish("hall/a/d1", "open")
        await plant.publish("hall/b/d1", "touched")
        await plant.advance("11s")
        assert alerts(plant) == [("alerts/a", "d1", 1)]


@pytest.mark.parametrize("when", ["now", "before commit", "after commit"])
async def test_a_crash_costs_no_alert_and_makes_none(when: Any) -> None:
    async with doors().test(raise_errors=False) as plant:
        await plant.publish("hall/a/d1", "open")
        await plant.crash(when)
        await plant.advance("11s")
        await plant.crash(when)
        await plant.advance("1m")
        assert alerts(plant) == [("alerts/a", "d1", n) for n in (1, 2, 3)]


async def test_an_event_under_way_changes_its_mind() -> None:
    app, woken = App("plant"), list[str]()
    events = app.stream("doors", topics="doors/{door}", key="door")

    async def left_open(state: State[Door]) -> None:
        woken.append(state.key)

    @app.on(events, wake=left_open)
    async def moved(event: Event, state: State[Door], clock: Clock) -> None:
        assert event.time is not None
        if event.data == "open":
            state.wake_at = event.time + timedelta(seconds=2)
        else:
            await clock.sleep(5.0)
            state.wake_at = None

    async with app.test() as plant:
        await plant.publish("doors/d1", "open")
        await plant.publish("doors/d2", "open")
        await plant.publish("doors/d1", "closed")
        await plant.advance("3s")
        assert woken == ["d2"]
        await plant.advance("10s")
        assert woken == ["d2"]


async def test_a_crash_between_two_tries_costs_none() -> None:
    """The tick is passed by then, and no more is to come."""
    app, tries = App("plant"), list[str]()
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")

    def wake(state: State[int]) -> None:
        tries.append(state.key)
        if len(tries) == 1:
            raise OSError("no answer")

    @app.on(numbers, wake=wake, retry=Retry(attempts=2, delay=timedelta(minutes=5)))
    def count(event: Event, state: State[int]) -> None:
        state.wake_at = event.time

    async with app.test(raise_errors=False) as plant:
        await plant.publish("numbers/a", 1)
        await plant.advance("30s")
        assert tries == ["a"]
        await plant.crash()
        await plant.advance("5s")
        assert tries == ["a", "a"]


async def test_what_fails_is_tried_again_and_then_given_up() -> None:
    app, tries = App("plant"), list[str]()
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")
    app.stream("told", topics="told")

    def wake(state: State[int]) -> str:
        tries.append(state.key)
        if state.key == "never" or len(tries) == 1:
            raise OSError("no answer")
        return state.key

    @app.on(numbers, into="told", wake=wake, retry=Retry(attempts=2, delay=timedelta(seconds=1)))
    def count(event: Event, state: State[int]) -> None:
        assert event.time is not None
        state.value += 1
        state.wake_at = event.time

    async with app.test(raise_errors=False) as plant:
        await plant.publish("numbers/later", 1)
        await plant.advance("10s")
        assert tries == ["later", "later"]
        await plant.publish("numbers/never", 1)
        await plant.advance("1m")
        assert tries == ["later", "later", "never", "never"]
        assert [event.data for event in plant.stream("told")] == ["later"]
        assert plant.dead_letters == []
        assert "not woken after 2 tries" in plant.errors[-1].then
        await plant.crash()
        await plant.advance("1m")
        assert len(tries) == 4, "it was given up"
        group = plant.group("count")
        assert (group.counts["processed"], group.counts["woken"]) == (2, 2)


async def test_an_asynchronous_handler_is_woken_too() -> None:
    app = App("plant")
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")
    app.stream("told", topics="told")

    def greeting() -> str:
        return "good morning"

    async def wake(state: State[int], words: Annotated[str, Depends(greeting)]) -> None:
        await asyncio.sleep(0)
        app.publish("told", f"{words}, {state.key}")

    @app.on(numbers, wake=wake)
    async def count(event: Event, state: State[int]) -> None:
        assert event.time is not None
        state.wake_at = event.time + timedelta(seconds=1)

    async with app.test() as plant:
        await plant.publish("numbers/a", 1)
        await plant.advance("3s")
        assert [event.data for event in plant.stream("told")] == ["good morning, a"]


def wakes_nobody(state: State[int]) -> None: ...


async def test_what_cannot_be_is_told() -> None:
    app = App("plant")
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")

    @app.on(numbers, group="forgetful")
    def no_wake(event: Event, state: State[int]) -> None:
        state.wake_at = event.time

    @app.on(numbers, group="zoneless", wake=wakes_nobody)
    def no_zone(event: Event, state: State[int]) -> None:
        state.wake_at = datetime(2026, 1, 1)  # noqa: DTZ001 (that is the mistake)

    async with app.test(raise_errors=False) as plant:
        await plant.publish("numbers/a", 1)
        told = {failure.processor: str(failure.error) for failure in plant.errors}
        assert "has no wake=" in told["forgetful"]
        assert "needs a time with its zone" in told["zoneless"]


def of_event(event: Event, state: State[int]) -> None: ...
def of_another(state: State[str]) -> None: ...
def of_none() -> None: ...
async def of_the_loop(state: State[int]) -> None: ...


WRONG = {
    "an event": (of_event, "without an event, which parameter 'event'"),
    "another state": (of_another, "needs a parameter that is the handler's State"),
    "no state": (of_none, "needs a parameter that is the handler's State"),
    "in the loop": (of_the_loop, "make both `async`, or neither"),
}


@pytest.mark.parametrize(("wake", "told"), WRONG.values(), ids=WRONG)
def test_a_function_that_cannot_be_called_is_refused(wake: Any, told: str) -> None:
    app = App("plant")
    with pytest.raises(AppError, match=told):

        @app.on("numbers/{device}", wake=wake)
        def handle(event: Event, state: State[int]) -> None: ...


def test_a_handler_without_a_state_wakes_nobody() -> None:
    app = App("plant")
    with pytest.raises(AppError, match="the handler has none; give it a State"):

        @app.on("numbers/{device}", wake=of_none)
        def handle(event: Event) -> None: ...


DEVICES = st.sampled_from("abcde")
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), DEVICES, st.sampled_from(["open", "closed", "touched"])),
        st.tuples(st.just("advance"), st.integers(1, 25), st.none()),
        st.tuples(st.just("crash"), st.sampled_from(["now", "before commit", "after commit"]), st.none()),
    ),
    max_size=15,
)


@settings(max_examples=30)
@given(MOVES)
async def test_alerts_are_those_of_the_definition(moves: list[tuple[str, Any, Any]]) -> None:
    """However often the worker crashes. Times are whole seconds here, as ticks are."""
    expected: Counter[tuple[str, int]] = Counter()
    wake_at: dict[str, int] = {}
    opened: Counter[str] = Counter()
    now = 0

    def pass_until(end: int) -> None:
        while due := sorted((at, door) for door, at in wake_at.items() if at <= end):
            at, door = due[0]
            opened[door] += 1
            expected[door, opened[door]] += 1
            del wake_at[door]
            if opened[door] < 3:
                wake_at[door] = at + 10

    async with doors().test(raise_errors=False) as plant:
        for move, what, data in (*moves, ("advance", 40, None)):
            if move == "publish":
                await plant.publish(f"hall/x/{what}", data)
                if data == "open":
                    wake_at[what] = now + 10
                elif data == "closed":
                    wake_at.pop(what, None)
                    opened[what] = 0
            elif move == "advance":
                await plant.advance(float(what))
                now += what
                pass_until(now)
            else:
                await plant.crash(what)
        await plant.publish("hall/x/last", "touched")  # for a crash that waits for a commit
        assert Counter((door, n) for _, door, n in alerts(plant)) == expected


def test_keys_ring_once_and_in_order() -> None:
    wakes = Wakes({"a": Wake(3, "t"), "b": Wake(1, "t"), "c": Wake(2, "t")})
    assert wakes.due == 1
    assert list(wakes.ring(2)) == ["b", "c"]
    assert (wakes.due, wakes.ring(2), wakes.rings("b"), wakes.rings("a")) == (3, {}, True, False)
    wakes.put("b", Wake(2, "t"))
    assert (wakes.due, wakes.rings("b")) == (2, False)
    wakes.put("b", None)
    wakes.put("a", Wake(5, "t"))
    assert (wakes.due, list(wakes.ring(9))) == (5, ["a"])
    assert wakes.due is None
