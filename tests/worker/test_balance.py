"""The groups' counts balance with what the log itself knows, whatever happens to events and workers."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.faults import FaultyLog
from tests.support.plant import Plant
from tests.worker.test_queries import make_app, reading

from millstream.app import App, Retry
from millstream.errors import LogUnavailableError
from millstream.ledger import Equation, equations
from millstream.ledger.balance import group_equation
from millstream.log import StreamSpec


async def balance(plant: Plant) -> dict[str, Equation]:
    """All equations, which hold."""
    rows = equations(await plant.log.accounts())
    assert not [str(row) for row in rows if not row.holds]
    return {row.what: row for row in rows}


def app_with(group: str, fails: bool = False) -> App:
    app = App("plant")

    @app.on("in/#", group=group, start="earliest", retry=Retry(attempts=1))
    async def handle(data: dict[str, Any]) -> None:
        if fails and data["n"] % 3 == 0:
            raise ValueError("it is a third")

    return app


async def test_handled_skipped_and_given_up_events_balance(plant: Plant) -> None:
    await plant.start(app_with("handler", fails=True))
    await plant.publish(*((f"in/{n}", {"n": n}) for n in range(9)), ("out", 1), ("in/x", b"no JSON"))
    await plant.caught_up("handler")
    rows = await balance(plant)
    assert str(rows["read by handler"]) == "read by handler: 11 = 6 processed + 1 skipped + 4 dead-lettered"
    assert str(rows["dead-lettered by handler"]) == "dead-lettered by handler: 4 = 4 in stream $deadletters"
    assert str(rows["in stream $deadletters"]) == "in stream $deadletters: 4 = 4 from handler"
    assert str(rows["in stream events"]) == "in stream events: 11 = 11 appended directly"


async def test_a_querys_events_balance(plant: Plant) -> None:
    await plant.start(make_app())
    bad = ("site/a/press-1/telemetry", b"{")
    await plant.publish(reading("press-1", 5, 91), reading("press-1", 25, 91), reading("press-2", 25, 91), bad)
    await plant.publish(reading("press-1", 6, 99))
    await plant.caught_up("overheating")
    rows = await balance(plant)
    assert str(rows["read by overheating"]) == "read by overheating: 5 = 3 processed + 1 late + 1 dead-lettered"
    assert str(rows["late by overheating"]) == "late by overheating: 1 = 1 in stream overheating.late"
    assert rows["in stream alerts"].terms == {"from overheating": 1}


async def shrink(plant: Plant, stream: str, spec: StreamSpec) -> None:
    """Let retention drop all of a stream but its last chunks."""
    await plant.log.create(spec)

    async def is_shrunk() -> bool:
        return (await plant.log.accounts()).streams[stream].dropped > 0

    await plant.pass_time_until(is_shrunk, "a stream that is shorter")


@pytest.mark.parametrize("app", [app_with("reader"), None], ids=["handler", "query"])
async def test_what_retention_took_is_counted_once_though_the_worker_fails(plant: Plant, app: App | None) -> None:
    """The commit that passes the gap fails: nothing of it counts, and the next one counts all of it."""
    group, stream = ("reader", "events") if app else ("overheating", "telemetry")
    app = app or make_app()
    await plant.stop(await plant.start(app))  # the group has its position
    for n in range(40):
        await plant.publish(reading("press-1", n, 20), ("in/press-1", {"n": n}))
    await shrink(plant, stream, StreamSpec(**{**_fields(app.streams[stream]), "retention_bytes": 500}))
    untold = (await plant.log.accounts()).groups[group]
    assert untold.expired > 0
    assert group_equation(untold).holds
    log = FaultyLog(plant.log)
    log.before = [LogUnavailableError("gone"), LogUnavailableError("gone again")]
    await plant.start(app, log)
    await plant.caught_up(group)
    assert not log.before
    rows = await balance(plant)
    told = (await plant.log.accounts()).groups[group]
    assert told.expired + told.status.counts["expired"] == untold.expired == rows[f"read by {group}"].terms["expired"]
    await plant.publish(reading("press-1", 60, 20), ("in/press-1", {"n": 0}))  # behind whatever is gone
    await plant.caught_up(group)
    await balance(plant)
    told = (await plant.log.accounts()).groups[group]
    assert (told.expired, told.status.counts["expired"]) == (0, untold.expired)


def _fields(spec: StreamSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__slots__}
