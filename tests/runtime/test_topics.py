"""Pub/sub of workers over the bus: who gets what, sharing, ends and returns of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from tests.support.mqtt import PATIENCE

from millstream.clock import VirtualClock, to_datetime
from millstream.errors import LogUnavailableError, TopicError
from millstream.event import Event, to_columns
from millstream.gateway import Gateway
from millstream.log.sqlite import SqliteLog
from millstream.runtime.bus import SocketBus, connect
from millstream.runtime.peer import SocketPeer
from millstream.runtime.topics import BusTopics, TopicsService
from millstream.settings import Settings
from millstream.worker import TopicSubscription


class Hub:
    """The gateway's topics; what workers publish is kept for the test to see."""

    def __init__(self, gateway: Gateway, clock: VirtualClock) -> None:
        self.clock = clock
        self.published: asyncio.Queue[pa.RecordBatch] = asyncio.Queue()
        self._gateway = gateway

    def publish(self, events: pa.RecordBatch) -> None:
        self.published.put_nowait(events)

    async def subscribe(self, topics: str, name: str, callback: Callable[[Sequence[Event]], None]) -> TopicSubscription:
        return await self._gateway.topics.subscribe(topics, name, callback)

    def give(self, *events: Event) -> int:
        """Publish, one batch an event; how many deliveries there were."""
        before = self._gateway.statistics()["delivered"]
        for event in events:
            self._gateway.topics.publish(to_columns([event]))
        return int(self._gateway.statistics()["delivered"] - before)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    clock = VirtualClock()
    log = await SqliteLog.memory(clock)
    gateway = Gateway(log, Settings(mqtt="", http="", allow_anonymous=True), clock)
    yield Hub(gateway, clock)
    await gateway.stop()
    await log.close()


@pytest.fixture
async def bus(hub: Hub, tmp_path: Path) -> AsyncIterator[SocketBus]:
    bus = SocketBus()
    service = TopicsService(hub, bus)
    await bus.listen(tmp_path / "server.sock")
    yield bus
    await bus.close()
    await service.close()


@pytest.fixture
async def workers(bus: SocketBus, tmp_path: Path) -> AsyncIterator[list[tuple[BusTopics, SocketPeer]]]:
    workers = []
    for _ in range(2):
        peer = await connect(tmp_path / "server.sock")
        topics = BusTopics()
        await topics.attach(peer)
        workers.append((topics, peer))
    yield workers
    for _, peer in workers:
        await peer.close()


Workers = list[tuple[BusTopics, SocketPeer]]


async def settle(workers: Workers) -> None:
    """Wait until what the server sent before has been taken: a request's answer comes behind it."""
    for topics, _ in workers:
        await (await topics.subscribe("settle", "settle", lambda events: None)).close()


async def test_subscribers_of_different_names_all_get_an_event_with_everything_in_it(
    hub: Hub, workers: Workers
) -> None:
    got: list[tuple[str, Event]] = []
    for name, (topics, _) in zip("ab", workers, strict=True):
        await topics.subscribe("site/+/door", name, lambda events, name=name: got.extend((name, e) for e in events))  # type: ignore[misc]
    event = Event(
        topic="site/a/door",
        payload=b"\xff\x00",
        key="k",
        id="1",
        type="t",
        headers={"h": "v"},
        time=to_datetime(hub.clock.now()),
    )
    hub.give(event, Event(topic="site/a/window"))
    await settle(workers)
    assert sorted(got, key=lambda pair: pair[0]) == [("a", event), ("b", event)]


async def test_subscribers_of_one_name_take_turns(hub: Hub, workers: Workers) -> None:
    got: list[list[str]] = [[], []]
    for mine, (topics, _) in zip(got, workers, strict=True):
        await topics.subscribe("#", "plant.door", lambda events, mine=mine: mine.extend(e.topic for e in events))  # type: ignore[misc]
    hub.give(*(Event(topic=f"t/{number}") for number in range(10)))
    await settle(workers)
    assert [len(mine) for mine in got] == [5, 5]
    assert sorted(got[0] + got[1]) == [f"t/{number}" for number in range(10)]


async def test_a_worker_that_goes_leaves_its_turns_to_the_others_and_the_last_one_ends_it(
    hub: Hub, workers: Workers
) -> None:
    got: list[str] = []
    for topics, _ in workers:
        await topics.subscribe("#", "one", lambda events: got.extend(e.topic for e in events))
    (_, first), (_, second) = workers
    await first.close()
    await settle(workers[1:])
    hub.give(*(Event(topic=f"t/{number}") for number in range(4)))
    await settle(workers[1:])
    assert got == ["t/0", "t/1", "t/2", "t/3"]
    await second.close()
    async with asyncio.timeout(PATIENCE):
        while hub.give(Event(topic="t")):  # noqa: ASYNC110 (the hub has no event for it)
            await asyncio.sleep(0)


async def test_a_closed_subscription_gets_nothing_more(hub: Hub, workers: Workers) -> None:
    got: list[Event] = []
    topics, _ = workers[0]
    subscription = await topics.subscribe("#", "one", got.extend)
    await subscription.close()
    await subscription.close()
    assert hub.give(Event(topic="t")) == 0
    await settle(workers)
    assert got == []


async def test_a_worker_publishes(hub: Hub, workers: Workers) -> None:
    events = to_columns([Event(topic="alerts", payload=b"{}", headers={"a": "b"}), Event(topic="x", key="k")])
    workers[0][0].publish(events)
    async with asyncio.timeout(PATIENCE):
        assert (await hub.published.get()).equals(events)


async def test_a_subscription_stands_again_on_the_next_connection(
    hub: Hub, bus: SocketBus, workers: Workers, tmp_path: Path
) -> None:
    got: list[str] = []
    topics, peer = workers[0]
    await topics.subscribe("#", "one", lambda events: got.extend(e.topic for e in events))
    await peer.close()
    topics.publish(to_columns([Event(topic="lost")]))
    assert topics.dropped == 1
    with pytest.raises(LogUnavailableError):
        await topics.subscribe("#", "two", lambda events: None)
    again = await connect(tmp_path / "server.sock")
    await topics.attach(again)
    hub.give(Event(topic="t"))
    await settle([(topics, again)])
    assert got == ["t"]
    await again.close()


async def test_a_wrong_filter_is_refused_and_leaves_nothing_behind(hub: Hub, workers: Workers) -> None:
    topics, _ = workers[0]
    with pytest.raises(TopicError):
        await topics.subscribe("a/#/b", "one", lambda events: None)
    assert hub.give(Event(topic="a/b/b")) == 0
