"""How a plant knows that nothing is left to do: whatever a handler waits for, but the plant's own clock."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
import uvloop

from millstream.app import App, Stream
from millstream.clock import Clock
from millstream.event import Event
from millstream.testing import RestlessError


async def test_handler_in_a_thread_is_waited_for() -> None:
    app, done = App("plant"), list[object]()
    pause = threading.Event()

    @app.on("t")
    def slow(event: Event) -> None:
        pause.wait(0.05)  # of real time
        done.append(event.data)

    async with app.test() as plant:
        await plant.publish("t", 1)
        assert done == [1]


async def test_handler_that_waits_for_real_time_or_a_thread_is_waited_for() -> None:
    app, done = App("plant"), list[str]()

    @app.on("timer")
    async def timer(event: Event) -> None:
        await asyncio.sleep(0.05)
        done.append("timer")

    @app.on("thread")
    async def thread(event: Event) -> None:
        await asyncio.to_thread(threading.Event().wait, 0.05)
        done.append("thread")

    @app.subscribe("subscriber")
    async def subscriber(event: Event) -> None:
        await asyncio.sleep(0.05)
        done.append("subscriber")

    async with app.test() as plant:
        for topic in ("timer", "thread", "subscriber"):
            await plant.publish(topic, 1)
            assert done[-1] == topic


async def test_handler_that_sleeps_on_the_plants_clock_waits_for_the_test() -> None:
    app, done = App("plant"), list[str]()
    clocks: list[Clock] = []

    @app.on("direct")
    async def direct(event: Event) -> None:
        await clocks[0].sleep(5)
        done.append("direct")

    @app.on("by-a-task")
    async def by_a_task(event: Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(clocks[0].sleep(3))
        done.append("by a task")

    async with app.test() as plant:
        clocks.append(plant.clock)
        await plant.publish("direct", 1)
        await plant.publish("by-a-task", 1)
        assert done == []
        await plant.advance("3s")
        assert done == ["by a task"]
        await plant.advance("2s")
        assert done == ["by a task", "direct"]
        assert plant.counts("direct")["processed"] == 1


@pytest.mark.parametrize("is_async", [True, False])
async def test_chain_of_handlers_runs_to_its_end(is_async: bool) -> None:
    app = App("plant")
    links: list[Stream] = [app.stream(f"link-{n}", topics=f"link/{n}") for n in range(6)]

    for number, link in enumerate(links[:-1]):

        async def pass_on(event: Event, into: str = f"link/{number + 1}") -> Event:
            return Event(topic=into, payload=event.payload)

        def pass_on_in_a_thread(event: Event, into: str = f"link/{number + 1}") -> Event:
            return Event(topic=into, payload=event.payload)

        app.on(link, group=f"link-{number}")(pass_on if is_async else pass_on_in_a_thread)

    async with app.test() as plant:
        await plant.publish("link/0", 7)
        assert [event.data for event in plant.stream("link-5")] == [7]


async def test_handler_that_does_not_end_is_named() -> None:
    app = App("plant")
    never = asyncio.Event()

    @app.on("t")
    async def wait(event: Event) -> None:
        await never.wait()

    async with app.test(patience="100ms") as plant:
        with pytest.raises(RestlessError, match=r"wait is still under way after 0.1 s .*create_task"):
            await plant.publish("t", 1)
        never.set()
        await plant.settle()


async def test_publishing_as_a_task_leaves_the_test_free_to_let_a_handler_go_on() -> None:
    app = App("plant")
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.on("t")
    async def wait(event: Event) -> None:
        started.set()
        await go_on.wait()

    async with app.test() as plant:
        publishing = asyncio.create_task(plant.publish("t", 1))
        await started.wait()
        go_on.set()
        assert await publishing
        assert plant.counts("wait") == {"processed": 1}


async def test_task_that_never_rests_is_told() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async with App("plant").test(patience=timedelta(seconds=0.1)) as plant:
        spinning = asyncio.create_task(spin())
        with pytest.raises(RestlessError, match="always ready to go on"):
            await plant.settle()
        spinning.cancel()


def test_any_event_loop_will_do() -> None:
    app = App("plant")

    @app.on("t")
    def handle(event: Event) -> None: ...

    async def test() -> None:
        async with app.test() as plant:
            await plant.publish("t", 1)
            await plant.advance("1h")
            assert plant.counts("handle") == {"processed": 1}

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


async def test_time_may_be_moved_while_a_publish_is_still_settling() -> None:
    app = App("plant")
    clocks: list[Clock] = []

    @app.on("t")
    async def handle(event: Event) -> None:
        await asyncio.sleep(0.02)
        await clocks[0].sleep(5)

    async with app.test() as plant:
        clocks.append(plant.clock)
        async with asyncio.TaskGroup() as group:
            for key in "abc":
                group.create_task(plant.publish("t", 1, key=key))
            await plant.advance("1s")
        await plant.advance("5s")
        assert plant.counts("handle") == {"processed": 3}
