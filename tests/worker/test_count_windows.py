"""Windows of so many events in a worker: whatever fails, and who looks at them."""

from __future__ import annotations

import json

import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant as Workers

from millstream import App
from millstream.errors import AppError, LogUnavailableError
from millstream.worker.open_windows import open_windows

SQL = "SELECT device, list(v) AS v FROM telemetry GROUP BY device, CountWindow(4, 2)"


def make_app(sql: str = SQL) -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device")
    app.query("counted", sql, start="earliest")
    return app


async def test_results_are_as_if_no_commit_had_failed(plant: Workers) -> None:
    faulty = FaultyLog(plant.log)
    await plant.start(make_app(), faulty)
    for v in range(20):
        if v % 3 == 0:
            (faulty.before if v % 2 else faulty.after).append(LogUnavailableError("gone"))
        await plant.publish(*((f"site/{device}", {"v": v}) for device in "abc"))
        await plant.caught_up("counted")
        await plant.clock.advance(1)
    found: dict[str | None, list[list[int]]] = {}
    for event in await plant.read("counted"):
        found.setdefault(event.key, []).append(event.data["v"])
    windows = [[v, v + 1, v + 2, v + 3] for v in range(0, 17, 2)]
    assert found == dict.fromkeys("abc", windows)


async def test_windows_that_are_not_full_are_shown() -> None:
    app = make_app(f"{SQL} HAVING count(*) > 9")
    async with app.test() as plant:
        for v in range(5):
            await plant.publish("site/a", {"v": v})
        await plant.publish("site/b", {"v": 9})
        shown = [one async for one in open_windows(plant._rig.log, app.plan()["counted"], plant.clock)]
        rows = [row for one in shown if one.results is not None for row in one.results.to_pylist()]
        found = sorted((row["key"], json.loads(row["data"])["v"]) for row in rows)
        assert found == [("a", [2, 3, 4]), ("b", [9])]


def test_grace_is_refused() -> None:
    app = App("plant")
    app.stream("telemetry", topics="site/{device}", key="device")
    app.query("counted", SQL, grace="5s")
    with pytest.raises(AppError, match="waits for none; leave out grace"):
        app.plan()
