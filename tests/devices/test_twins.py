"""Twins, over every database."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.devices.conftest import OpenRegistry
from tests.devices.test_registry import PRESS, change, ids, outbox

from millstream.clock import VirtualClock
from millstream.devices import Expected, Name, Registry, Report, Sides, TwinChange, Twins
from millstream.devices.document import difference, merge, same
from millstream.devices.gathered import Gathered
from millstream.errors import DeviceError, OverloadError, PreconditionError, UnknownDeviceError

TIME = "2026-01-01T00:00:00Z"

VALUES = st.recursive(
    st.booleans() | st.integers(0, 3) | st.sampled_from([0.5, 1.0]) | st.sampled_from(["", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@pytest.fixture
async def twins(registry: Registry) -> Twins:
    await registry.put(PRESS, change(tags={"site": "a"}))
    return Twins(registry)


def said(**members: Any) -> TwinChange:
    return msgspec.convert(members, TwinChange)


async def test_a_twin_begins_empty(twins: Twins) -> None:
    twin = await twins.get(PRESS)
    assert twin.sides == Sides()
    assert twin.shown() == {
        "id": "press-1",
        "tags": {"site": "a"},
        "desired": {},
        "desired_version": 0,
        "reported": {},
        "reported_version": 0,
        "desired_updated": None,
        "reported_updated": None,
        "connected": False,
        "etag": f"{twin.device.etag}-0",
    }


async def test_operators_change_tags_and_desired(twins: Twins, registry: Registry) -> None:
    await twins.change(PRESS, said(desired={"speed": 3, "mode": {"night": True, "hour": 22}}), by="ann")
    twin = await twins.change(PRESS, said(tags={"floor": 3}, desired={"mode": {"night": None}}), by="ann")
    assert twin == await twins.get(PRESS)
    assert twin.device.tags == {"site": "a", "floor": 3}
    assert twin.sides.desired.content == {"speed": 3, "mode": {"hour": 22}}
    assert (twin.sides.desired.version, twin.sides.reported.version) == (2, 0)
    twin = await twins.change(PRESS, said(tags={"x": 1}, desired={"speed": 4}), replace=True)
    assert (twin.device.tags, twin.sides.desired.content) == ({"x": 1}, {"speed": 4})
    its = (await registry.get(PRESS)).generation
    told = [(topic, data) for topic, data in await outbox(registry) if topic.startswith("$twins")]
    common = {"device": "press-1", "generation": its, "time": TIME}
    assert told[0] == (
        "$twins/press-1/desired",
        {**common, "version": 1, "patch": {"speed": 3, "mode": {"night": True, "hour": 22}}, "by": "ann"},
    )
    assert [topic for topic, _ in told] == [f"$twins/press-1/{what}" for what in ("desired", *("tags", "desired") * 2)]
    assert told[2][1]["patch"] == {"mode": {"night": None}}
    assert told[3][1]["patch"] == {"site": None, "floor": None, "x": 1}
    assert told[4][1]["patch"] == {"mode": None, "speed": 4}


async def test_devices_report(twins: Twins, registry: Registry) -> None:
    await registry.put(Name("press-1", "vision"), change())
    outcomes = await twins.report_many(
        [
            Report(PRESS, {"firmware": "1.9", "ok": True}),
            Report(Name("nobody"), {"a": 1}),
            Report(PRESS, {"firmware": "2.0"}),
            Report(PRESS, {"a b": 1}),
            Report(Name("press-1", "vision"), {"lens": 1}),
            Report(PRESS, {"firmware": "2.0"}),
        ]
    )
    kinds = [each if isinstance(each, int) else type(each) for each in map(_version, outcomes)]
    assert kinds == [1, UnknownDeviceError, 2, DeviceError, 1, 2]
    assert (await twins.get(PRESS)).sides.reported.content == {"firmware": "2.0", "ok": True}
    events = [data for topic, data in await outbox(registry) if topic == "$twins/press-1/reported"]
    assert [(event["version"], event["patch"], event.get("module")) for event in events] == [
        (1, {"firmware": "1.9", "ok": True}, None),
        (2, {"firmware": "2.0"}, None),
        (1, {"lens": 1}, "vision"),
    ]


def _version(outcome: Sides | Exception) -> int | Exception:
    return outcome.reported.version if isinstance(outcome, Sides) else outcome


async def test_what_comes_together_is_in_order(twins: Twins) -> None:
    outcomes = await asyncio.gather(*(twins.report(Report(PRESS, {"n": n})) for n in range(1_200)))
    assert [each.reported.version for each in outcomes] == list(range(1, 1_201))
    assert (await twins.get(PRESS)).sides.reported.content == {"n": 1_199}


async def test_saying_the_same_again_changes_nothing(twins: Twins, registry: Registry) -> None:
    first = await twins.change(PRESS, said(desired={"a": 1, "b": {}}))
    count = len(await outbox(registry))
    assert await twins.change(PRESS, said(desired={"a": 1.0, "c": None})) == first
    assert await twins.change(PRESS, said(desired={"a": 1, "b": {}}), replace=True) == first
    assert len(await outbox(registry)) == count
    assert (await twins.change(PRESS, said(desired={"a": True}))).sides.desired.version == 2, "true is not 1"


async def test_preconditions_are_of_tags_and_desired(twins: Twins) -> None:
    first = await twins.get(PRESS)
    await twins.report(Report(PRESS, {"a": 1}))
    second = await twins.change(PRESS, said(desired={"a": 1}), expected=Expected(first.etag))
    for stale in (first.etag, second.device.etag):
        with pytest.raises(PreconditionError, match=second.etag):
            await twins.change(PRESS, said(desired={"a": 2}), expected=Expected(stale))
    with pytest.raises(UnknownDeviceError):
        await twins.change(Name("nobody"), said())


@pytest.mark.parametrize(
    "wrong", [{"a": "x" * 33_000}, {"a.b": 1}, {"$version": 1}, {"a": 1e300}, {"a": [[[[[[[[[[1]]]]]]]]]]}]
)
async def test_impossible_twins_are_told(twins: Twins, wrong: dict[str, Any]) -> None:
    with pytest.raises(DeviceError, match="desired"):
        await twins.change(PRESS, said(desired=wrong, tags={"changed": True}))
    with pytest.raises(DeviceError, match="reported"):
        await twins.report(Report(PRESS, wrong))
    twin = await twins.get(PRESS)
    assert (twin.sides, twin.device.tags) == (Sides(), {"site": "a"})


async def test_a_twin_is_there_again_and_goes_with_its_device(
    twins: Twins, registry: Registry, open_registry: OpenRegistry, clock: VirtualClock
) -> None:
    await clock.advance(5)
    before = await twins.change(PRESS, said(desired={"é": [1, None, {"x": -1.5}]}))
    again = await open_registry()
    twins = Twins(again)
    assert await twins.get(PRESS) == before
    assert before.sides.desired.updated == clock.now()
    await again.delete(PRESS)
    with pytest.raises(UnknownDeviceError):
        await twins.get(PRESS)
    await again.put(PRESS, change())
    assert (await twins.get(PRESS)).sides == Sides()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("reported.firmware < '2.0'", "a"),
        ("reported.firmware IS NULL", "cd"),
        ("desired.speed > 2 AND tags.site = 'x'", "b"),
        ("desired.mode.night", "b"),
        ("NOT desired.mode.night", ""),
        ("reported_version > 0", "ab"),
        ("desired_version = 0", "acd"),
        ("reported.n = 1 OR id = 'd'", "bd"),
    ],
)
async def test_queries_ask_twins(registry: Registry, query: str, found: str) -> None:
    twins = Twins(registry)
    for name in "abcd":
        await registry.put(Name(name), change(tags={"site": "x"}))
    await twins.report_many([Report(Name("a"), {"firmware": "1.9"}), Report(Name("b"), {"firmware": "2.0", "n": 1})])
    await twins.change(Name("b"), said(desired={"speed": 3, "mode": {"night": True}}))
    assert "".join(await ids(registry, query)) == found


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_leads_from_one_to_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    patch = difference(before, after)
    assert same(merge(before, patch), after)
    assert (patch == {}) == same(before, after)


async def test_what_is_gathered_fails_together_and_goes_on() -> None:
    failing = True

    async def act(pieces: Any) -> Any:
        await asyncio.sleep(0)
        if failing:
            raise DeviceError("no")
        return pieces

    gathered: Gathered[int, int] = Gathered(act, 2)
    outcomes = await asyncio.gather(*(gathered.do(n) for n in range(4)), return_exceptions=True)
    assert [type(each) for each in outcomes] == [DeviceError, DeviceError, OverloadError, OverloadError]
    failing = False
    abandoned = asyncio.ensure_future(gathered.do(1))
    await asyncio.sleep(0)
    abandoned.cancel()
    assert await gathered.do(2) == 2
    await gathered.drain()
