"""The registry as a table that queries join with."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.devices.conftest import OpenRegistry

from millstream.devices import Change, Name, Registry, Report, TwinChange, Twins
from millstream.devices import table as table_module
from millstream.devices.table import DeviceTables
from millstream.errors import ReferenceDataError
from millstream.reference import Wish

VALUES = {
    "text": 'a "b"',
    "number": 2.5,
    "whole": 7,
    "yes": True,
    "no": False,
    "list": [1, {"x": None}],
    "inner": {"é": "ü"},
}


async def put(registry: Registry, name: str, tags: dict[str, Any] | None = None) -> None:
    await registry.put(Name.parse(name), Change(tags=tags or {}))


async def test_members_are_the_json_that_they_are(open_registry: OpenRegistry) -> None:
    registry = await open_registry()
    twins = Twins(registry)
    await put(registry, "a", VALUES)
    await put(registry, "b")
    await put(registry, "b/module", VALUES)
    await twins.report(Report(Name("a"), VALUES))
    columns = [f"{side}.{name}" for side in ("tags", "reported") for name in [*VALUES, "inner.é"]]
    found = (await DeviceTables(registry).table(Wish(None, columns))).table
    first, second = found.to_pylist()
    assert (first.pop("id"), second.pop("id")) == ("a", "b")
    there = {name: json.loads(value) for name, value in first.items()}
    assert there == {f"{side}.{name}": value for side in ("tags", "reported") for name, value in VALUES.items()} | {
        "tags.inner.é": "ü",
        "reported.inner.é": "ü",
    }
    assert type(there["tags.yes"]) is bool
    assert set(second.values()) == {None}


async def test_columns_are_those_that_are_asked_for_of_devices_that_are(open_registry: OpenRegistry) -> None:
    registry = await open_registry()
    for device, site in (("b", "x"), ("a", "x"), ("c", "y")):
        await put(registry, device, {"site": site})
    await Twins(registry).change(Name("a"), TwinChange(desired={"limit": 3}))
    wish = Wish("tags.site = 'x'", ["status", "enrollment", "tags", "desired.limit"])
    found = (await DeviceTables(registry).table(wish)).table.to_pylist()
    assert [json.loads(row.pop("tags")) for row in found] == [{"site": "x"}, {"site": "x"}]
    assert found == [
        {"id": "a", "status": "enabled", "enrollment": None, "desired.limit": "3"},
        {"id": "b", "status": "enabled", "enrollment": None, "desired.limit": None},
    ]
    nothing = (await DeviceTables(registry).table(Wish("tags.site = 'z'", ["status"]))).table
    assert (len(nothing), nothing.column_names) == (0, ["id", "status"])


async def test_answer_waits_for_a_change_of_what_is_asked_for(open_registry: OpenRegistry) -> None:
    registry = await open_registry()
    twins, tables = Twins(registry), DeviceTables(registry)
    await put(registry, "a", {"line": "A"})
    wish = Wish(None, ["tags.line"])
    seen = (await tables.table(wish)).seen
    waiting = asyncio.ensure_future(tables.table(wish._replace(seen=seen)))
    of_reported = asyncio.ensure_future(tables.table(Wish("reported.x = 1", ["tags.line"], seen)))
    await twins.report(Report(Name("a"), {"x": 1}))
    assert (await of_reported).table.to_pylist() == [{"id": "a", "tags.line": '"A"'}]
    assert not waiting.done()
    await registry.patch(Name("a"), Change(tags={"line": "B"}))
    assert (await waiting).table.to_pylist() == [{"id": "a", "tags.line": '"B"'}]
    waiting = asyncio.ensure_future(tables.table(wish._replace(seen=(await waiting).seen)))
    await registry.delete(Name("a"))
    assert (await waiting).table.to_pylist() == []


async def test_registry_that_is_too_large_is_refused(
    open_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = await open_registry()
    await put(registry, "a", {"line": "A"})
    monkeypatch.setattr(table_module, "MOST_BYTES", 4)
    with pytest.raises(ReferenceDataError, match="say with select= which devices are meant"):
        await DeviceTables(registry).table(Wish(None, ["tags.line"]))
