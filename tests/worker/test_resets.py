"""Keys that begin anew, in workers: at one place in the stream, once, for one group alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant
from tests.support.streams import make_batch

from millstream import App, Event, State
from millstream.errors import LogUnavailableError
from millstream.event import Tick
from millstream.ledger.deadletters import Operator
from millstream.ledger.resets import reset_event
from millstream.log import partition_of
from millstream.worker.addressed import in_pieces
from millstream.worker.backtest import Backtest, Span

COUNTED = "SELECT device, list(v) AS v FROM telemetry GROUP BY device, CountWindow(4)"


@dataclass
class Opened:
    times: int = 0


@dataclass
class Site:
    """An application that keeps something of each device: a query twice, and handlers with and without a state."""

    app: App
    told: list[tuple[str, int]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Site:
    app = App("plant", catch_all=False)
    site = Site(app)
    telemetry = app.stream("telemetry", topics="site/{device}", key="device")
    for name in ("counted", "other"):
        app.query(name, COUNTED, start="earliest")

    @app.on(telemetry, group="opened", start="earliest")
    def opened(device: str, state: State[Opened]) -> None:
        state.value.times += 1
        site.told.append((device, state.value.times))

    @app.on(telemetry, group="heard", start="earliest")
    def heard(event: Event) -> None:
        site.heard.append(event.topic)

    return site


async def reset(plant: Plant, group: str, key: str) -> str:
    partition = partition_of(key, (await plant.log.streams())["telemetry"].partitions)
    event = reset_event(group, "telemetry", partition, key)
    async with Operator.at_work(plant.log) as operator:
        (position,) = await operator.reset([("telemetry", partition, event)])
    return position


async def values(plant: Plant, query: str) -> dict[str | None, list[list[int]]]:
    found: dict[str | None, list[list[int]]] = {}
    for event in await plant.read(query):
        found.setdefault(event.key, []).append(event.data["v"])
    return found


async def caught_up(plant: Plant) -> None:
    for group in ("counted", "other", "opened", "heard"):
        await plant.caught_up(group)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_key_begins_anew_for_one_query_alone(plant: Plant, site: Site, at_once: bool) -> None:
    """Whether the query reads it with what stands around it, or by itself; and whatever commit fails."""
    faulty = FaultyLog(plant.log)
    worker = await plant.start(site.app, faulty)
    if at_once:
        await plant.stop(worker)
    for v in range(3):
        await plant.publish(("site/a", {"v": v}), ("site/b", {"v": v}))
    if not at_once:
        await caught_up(plant)
        faulty.before += [LogUnavailableError("gone")] * 3
        faulty.after += [LogUnavailableError("gone")] * 3
    await reset(plant, "counted", "a")
    for v in range(3, 8):
        await plant.publish(("site/a", {"v": v}), ("site/b", {"v": v}))
    if at_once:
        await plant.start(site.app, faulty)
    await caught_up(plant)
    whole = [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert await values(plant, "counted") == {"a": [[3, 4, 5, 6]], "b": whole}
    assert await values(plant, "other") == {"a": whole, "b": whole}
    assert site.told.count(("a", 8)) == 1
    assert set(site.heard) == {"site/a", "site/b"}
    assert (await plant.counts("counted"))["processed"] == 17
    assert (await plant.counts("other"))["skipped"] == 1
    assert await plant.dead_letters() == []


async def test_a_backtest_finds_it_where_the_live_run_did(plant: Plant, site: Site) -> None:
    await plant.start(site.app)
    for v in range(8):
        await plant.publish(("site/a", {"v": v}))
        if v == 2:
            await reset(plant, "counted", "a")
    await caught_up(plant)
    await plant.clock.advance(1)
    for name, plan in site.app.plan().items():
        run = Backtest(plant.log, plan, Span(None, plant.clock.now())).run(lambda read, of: None)
        again = [payload async for outputs in run for payload in outputs.column("data").to_pylist()]
        assert again == [event.payload for event in await plant.read(name)], name


async def test_what_a_handler_keeps_of_a_key_begins_anew(plant: Plant, site: Site) -> None:
    worker = await plant.start(site.app)
    for _ in range(3):
        await plant.publish(("site/a", {}), ("site/b", {}))
    await caught_up(plant)
    await reset(plant, "opened", "a")
    await caught_up(plant)
    partitions = (await plant.log.streams())["telemetry"].partitions
    states = [await plant.log.state("opened", partition) for partition in range(partitions)]
    assert [name for saved in states for name in saved] == ["key:b"]
    await plant.stop(worker)
    await plant.start(site.app)
    await plant.publish(("site/a", {}), ("site/b", {}))
    await caught_up(plant)
    assert sorted(site.told)[-4:] == [("b", 1), ("b", 2), ("b", 3), ("b", 4)]
    assert [times for device, times in site.told if device == "a"] == [1, 2, 3, 1]
    assert set(site.heard) == {"site/a", "site/b"}, "it is no event for anybody"
    assert await plant.dead_letters() == []


async def test_a_key_that_was_to_be_woken_is_not(plant: Plant) -> None:
    app = App("plant", catch_all=False)
    telemetry = app.stream("telemetry", topics="site/{device}", key="device")
    woken: list[str] = []

    def silent(state: State[Opened]) -> None:
        woken.append(state.key)

    @app.on(telemetry, group="opened", wake=silent, start="earliest")
    def opened(event: Event, state: State[Opened]) -> None:
        assert event.time is not None
        state.wake_at = event.time + timedelta(seconds=60)

    await plant.start(app)
    await plant.publish(("site/a", {}), ("site/b", {}))
    await plant.caught_up("opened")
    await reset(plant, "opened", "a")
    await plant.caught_up("opened")
    await plant.pass_time_until(lambda: woken, "a key that is woken")
    await plant.clock.advance(10)
    await plant.caught_up("opened")
    assert woken == ["b"]


def test_a_batch_is_cut_at_resets() -> None:
    def event(key: str, to: str | None = None) -> Event:
        return Event(topic="t", key=key) if to is None else reset_event(to, "telemetry", 0, key)

    events = [event("a"), event("b", "g"), event("c", "h"), event("d"), event("e", "g"), event("f", "g")]
    offsets = [10, 12, 13, 14, 16, 17]
    batch = make_batch(events, offsets, next_offset=19, ticks=(Tick(11, 0), Tick(15, 1), Tick(18, 2)))
    pieces = in_pieces([batch], "g")
    assert [
        (piece.resets, [one.key for one in piece.batches[0]], [tick.offset for tick in piece.batches[0].ticks])
        for piece in pieces
    ] == [
        (None, ["a"], [11]),
        ("b", [], []),
        (None, ["d"], [15]),
        ("e", [], []),
        (None, [], []),
        ("f", [], []),
        (None, [], [18]),
    ]
    assert [piece.batches[0].next_offset for piece in pieces] == [12, 13, 16, 17, 17, 18, batch.next_offset]
    assert [piece.skipped for piece in pieces] == [0, 0, 1, 0, 0, 0, 0]
    (untouched,) = in_pieces([batch], "stranger")
    assert (len(untouched.batches[0]), untouched.skipped) == (2, 4)
