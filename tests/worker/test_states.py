"""What handlers keep of keys: committed with the events that made it, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from millstream import App, Depends, Event, Retry, State
from millstream.app.state import state_kind
from millstream.errors import AppError, StateError
from millstream.testing import Plant

CLEAR, FAIL = 0, -1  # what events tell a handler to do, instead of counting them


@dataclass
class Door:
    opened: int = 0
    since: str | None = None
    last: list[int] = field(default_factory=list)


class Total(msgspec.Struct):
    n: int = 0


class Model(BaseModel):
    n: int = 0


def counting_app(kind: Any = Total, **options: Any) -> App:
    """Each event's result is how many of its device there have been."""
    app = App("plant")
    numbers = app.stream("numbers", topics="numbers/{device}", key="device", partitions=4)
    results = app.stream("counted", topics="counted")

    @app.on(numbers, into=results, **options)
    def count(data: Any, state: State[kind]) -> list[Any]:
        if data == CLEAR:
            state.clear()
            return []
        state.value.n += 1
        if data == FAIL:
            raise ValueError("after it has changed the state")
        return [[state.key, state.value.n]]

    return app


def counted(plant: Plant) -> list[Any]:
    return [event.data for event in plant.stream("counted")]


@pytest.mark.parametrize("kind", [Total, Model])
async def test_each_key_has_its_own(kind: Any) -> None:
    async with counting_app(kind).test() as plant:
        for device in "abaab":
            await plant.publish(f"numbers/{device}", 1)
        assert counted(plant) == [["a", 1], ["b", 1], ["a", 2], ["a", 3], ["b", 2]]
        assert await plant.states("count") == {"a": {"n": 3}, "b": {"n": 2}}


async def test_value_may_be_exchanged_for_another() -> None:
    app = App("plant")
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")

    @app.on(numbers)
    def add(data: int, total: State[int]) -> None:
        total.value += data

    @app.on(numbers)
    async def gather(data: int, seen: State[dict[str, list[int]]]) -> None:
        seen.value.setdefault(seen.key, []).append(data)

    async with app.test() as plant:
        for n in range(3):
            await plant.publish("numbers/a", n)
        assert await plant.states("add") == {"a": 3}
        assert await plant.states("gather") == {"a": {"a": [0, 1, 2]}}


@pytest.mark.parametrize("when", ["now", "before commit", "after commit"])
async def test_crash_is_as_if_it_had_not_been(when: Any) -> None:
    async with counting_app().test(raise_errors=False) as plant:
        await plant.publish("numbers/a", 1)
        await plant.crash(when)
        await plant.publish("numbers/a", 1)
        await plant.publish("numbers/a", 1)
        assert counted(plant) == [["a", 1], ["a", 2], ["a", 3]]


async def test_event_that_fails_leaves_nothing() -> None:
    app = counting_app(retry=Retry(attempts=2, delay=timedelta(seconds=1)))
    async with app.test(raise_errors=False) as plant:
        for data in (1, FAIL, 1):
            await plant.publish("numbers/a", data)
        await plant.advance("10s")
        assert counted(plant) == [["a", 1], ["a", 2]]
        assert [event.data for event in plant.dead_letters] == [FAIL]
        assert await plant.states("count") == {"a": {"n": 2}}


async def test_key_that_is_cleared_is_a_new_one() -> None:
    async with counting_app().test() as plant:
        for data in (1, 1, CLEAR):
            await plant.publish("numbers/a", data)
        assert await plant.states("count") == {}
        await plant.crash()
        await plant.publish("numbers/a", 1)
        assert counted(plant)[-1] == ["a", 1]


async def test_what_a_call_under_way_has_changed_is_no_part_of_a_commit() -> None:
    """Of two events of a key the first is committed while the second is under way, and its worker dies then."""
    app = App("plant")
    numbers = app.stream("numbers", topics="numbers/{device}", key="device")
    stuck, calls = asyncio.Event(), list[int]()

    @app.on(numbers)
    async def handle(data: int, state: State[Door]) -> None:
        state.value.last.append(data)
        calls.append(data)
        if data == 2 and len(calls) == 2:
            stuck.set()
            await asyncio.Event().wait()

    async with app.test() as plant:
        await plant.publish("numbers/a", 1)
        publishing = asyncio.create_task(plant.publish("numbers/a", 2))
        await stuck.wait()
        assert (await plant.states("handle"))["a"]["last"] == [1]
        await plant.crash()
        await publishing
        assert calls == [1, 2, 2]
        assert (await plant.states("handle"))["a"]["last"] == [1, 2]


class Needy(msgspec.Struct):
    n: int


def no_default(event: Event, state: State[Needy]) -> None: ...
def no_kind(event: Event, state: State) -> None: ...  # type: ignore[type-arg]
def no_json(event: Event, state: State[object]) -> None: ...
def batches(events: list[Event], state: State[int]) -> None: ...
def two(event: Event, one: State[int], other: State[int]) -> None: ...
def needs_state(state: State[int]) -> int: ...  # type: ignore[empty-body]
def of_dependency(event: Event, made: Annotated[int, Depends(needs_state)]) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (no_default, r"as State\[Needy\]: Missing required argument 'n'\. .* so every field needs a default"),
        (no_kind, r"'state' is a State, but of what\? Write State\[T\]"),
        (no_json, r"nothing can be kept as State\[object\]"),
        (batches, "'state' is of one event, and 'events' of a batch"),
        (two, "has two parameters that are a State; keep both in one type"),
        (of_dependency, "only the handler itself has its State"),
    ],
)
def test_wrong_declaration_is_told_at_its_line(function: Any, told: str) -> None:
    with pytest.raises(AppError, match=rf"test_states.py:\d+: handler {function.__name__}.*{told}"):
        App("plant").on("a", batch=function is batches)(function)


def test_subscription_has_none() -> None:
    with pytest.raises(AppError, match="a subscription keeps nothing"):

        @App("plant").subscribe("a")
        def subscription(event: Event, state: State[int]) -> None: ...


def test_state_of_another_type_is_told_with_the_mend() -> None:
    with pytest.raises(StateError, match=r"the key 'a' is no Total: .*a default.*group="):
        state_kind(Total, "here").of("a", b'{"n": "many"}')


async def test_state_that_is_too_large_fails_its_event(caplog: pytest.LogCaptureFixture) -> None:
    app = App("plant")

    @app.on("texts", retry=Retry(attempts=1))
    def keep(data: list[str], state: State[list[str]]) -> None:
        state.value += data

    with caplog.at_level(logging.CRITICAL):
        async with app.test(raise_errors=False) as plant:
            for size in (100_000, 600_000, 1):
                await plant.publish("texts", ["x" * size])
            assert [len(text) for text in (await plant.states("keep"))["texts"]] == [100_000, 1]
            (failure,) = plant.errors
            assert "at most 524,288 are kept of a key" in str(failure.error)


actions = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from([1, 1, 1, CLEAR, FAIL])),
        st.tuples(st.just("crash"), st.sampled_from(["now", "before commit"])),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(actions, st.integers(1, 2), st.sampled_from([1, 4]))
def test_states_are_those_of_a_loop_over_the_events(
    script: list[tuple[str, Any]], workers: int, concurrency: int
) -> None:
    async def run() -> None:
        app = counting_app(retry=Retry(attempts=1), concurrency=concurrency)
        wanted, results = Counter[str](), list[Any]()
        async with app.test(workers=workers, raise_errors=False) as plant:
            for name, what in script:
                if name == "crash":
                    await plant.crash(what if workers == 1 else "now")
                    continue
                await plant.publish(f"numbers/{name}", what)
                if what == CLEAR:
                    del wanted[name]
                elif what == 1:
                    wanted[name] += 1
                    results.append([name, wanted[name]])
            await plant.publish("numbers/a", 1)  # for a crash before a commit
            wanted["a"] += 1
            results.append(["a", wanted["a"]])
            await plant.publish("numbers/b", 1)
            await plant.publish("numbers/c", 1)
            assert sorted(counted(plant)) == sorted([*results, ["b", wanted["b"] + 1], ["c", wanted["c"] + 1]])
            wanted.update("bc")
            assert await plant.states("count") == {name: {"n": n} for name, n in wanted.items() if n}

    asyncio.run(run())
