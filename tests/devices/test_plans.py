"""What the registry asks of SQLite is looked up in an index, however many devices there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from millstream.clock import VirtualClock
from millstream.devices import (
    Change,
    Commands,
    Definition,
    Name,
    Presence,
    Registry,
    Report,
    TwinChange,
    Twins,
    What,
)
from millstream.devices.database import Database
from millstream.devices.tables import devices

LARGE = ("devices", "twins", "commands")
NAMES = [Name("a"), Name("b"), Name("b", "module"), Name("c")]


@pytest.fixture
async def registry(tmp_path: Path, clock: VirtualClock) -> Any:
    opened = await Registry.open("", tmp_path, clock)
    yield opened
    await opened.close()


@pytest.fixture
def scans(registry: Registry) -> Iterator[list[str]]:
    """Statements that read a whole table, but for those that want any row of it."""
    found: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.split()[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        one = parameters[0] if many else parameters
        plan = [row[-1] for row in connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", one)]
        found.extend(
            f"{step}: {statement}"
            for step in plan
            for table in LARGE
            if step.split()[:2] == ["SCAN", table] and "devices_connected" not in step and "WHERE" in statement
        )

    engines = _engines(registry.database)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", explain)
    yield found
    for engine in engines:
        event.remove(engine, "before_cursor_execute", explain)


def _engines(database: Database) -> list[Any]:
    return [database._engines.writer, database._engines.readers]


async def test_nothing_reads_a_whole_table(registry: Registry, scans: list[str], clock: VirtualClock) -> None:
    twins, presence = Twins(registry), Presence(registry, clock)
    await presence.start()
    await registry.put_many([Definition(name, Change(tags={"x": 1})) for name in NAMES])
    await registry.put_many([Definition(name, Change(tags={"x": 2})) for name in NAMES])
    for name in NAMES:
        presence.came(name, (await registry.get(name)).generation, {})
        presence.active(name)
        await twins.change(name, TwinChange(tags={"y": 1}, desired={"z": 1}))
    await twins.report_many([Report(name, {"x": 1}) for name in NAMES])
    await twins.report_many([Report(name, {"x": 2}) for name in NAMES])
    for name in NAMES:
        presence.gone(name, (await twins.get(name)).device.generation, {})
    await presence.close()
    await registry.modules("b")
    assert [device.name for device in await registry.page(None, Name("a"), 2, modules=True)] == NAMES[1:3]
    await registry.delete(Name("b"))
    assert scans == []


async def test_no_command_reads_a_whole_table(registry: Registry, scans: list[str]) -> None:
    commands = Commands(registry)
    await registry.put_many([Definition(name, Change()) for name in NAMES])
    for name in NAMES:
        first, _ = [await commands.queue(name, b"1") for _ in range(2)]
        assert len(await commands.take(name)) == 2
        await commands.settle(name, first.id, What.DELIVERED)
        assert len(await commands.waiting(name)) == 1
        assert await commands.purge(name) == 1
    await commands.expire()
    assert await commands.unsettled() == []
    assert scans == []


async def test_the_test_itself_sees_a_whole_table_read(registry: Registry, scans: list[str]) -> None:
    await registry.put_many([Definition(name, Change()) for name in NAMES])
    await registry.database.read(
        lambda connection: connection.execute(select(devices).where(devices.c.status == "x")).all()
    )
    assert len(scans) == 1
