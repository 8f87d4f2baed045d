"""Which results an event went into."""

from __future__ import annotations

from millstream import App
from millstream.cli.windows import results
from millstream.clock import SECOND, to_text
from millstream.ledger.trace import COMPLETED, Copy, Outcome, trace


async def test_an_event_went_into_the_windows_of_its_group_whichever_its_key() -> None:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device", partitions=4)
    app.query(
        "lines",
        "SELECT line, count(*) AS n FROM telemetry TIMESTAMP BY ts GROUP BY line, TumblingWindow(minute, 1)",
    )
    async with app.test() as plant:
        now = plant.clock.now()
        for device in range(5):
            await plant.publish(f"site/{device}", {"ts": to_text(now + SECOND), "line": "ab"[device % 2]})
        await plant.advance("3m")
        by_key = {event.key: event for event in plant.stream("lines")}
        for event in plant.stream("telemetry"):
            (found,) = await results(plant._rig.log, app, [Copy(event, [Outcome("lines", COMPLETED, None)])])
            wanted = by_key[event.data["line"]]
            assert (found.id, found.position) == (wanted.id, wanted.position)


async def test_results_of_a_join_are_those_of_both_events() -> None:
    app = App("plant", catch_all=False)
    app.stream("calls", topics="call/{device}", key="device")
    app.stream("answers", topics="answer/{machine}", key="machine")
    app.query(
        "answered",
        "SELECT c.device, a.n FROM calls c JOIN answers a "
        "ON c.device = a.machine AND c.n = a.n AND DATEDIFF(second, c, a) BETWEEN 0 AND 10",
    )
    async with app.test() as plant:
        for n in range(3):
            await plant.publish("call/press-1", {"n": n})
        for n in (1, 1, 2, 7):
            await plant.publish("answer/press-1", {"n": n})
        log, pairs = plant._rig.log, plant.stream("answered")
        for sent, found in [
            (plant.stream("calls")[0], []),
            (plant.stream("calls")[1], pairs[:2]),
            (plant.stream("answers")[0], pairs[:1]),
            (plant.stream("answers")[2], pairs[2:]),
            (plant.stream("answers")[3], []),
        ]:
            told = await results(log, app, (await trace(log, sent)).copies)
            assert [one.position for one in told if one.position] == [one.position for one in found]
            assert [one.id for one in told if one.id] == [one.id for one in found]
            assert all(one.why for one in told if one.id is None)
