"""The registry, over every database."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from tests.devices.conftest import OpenRegistry

from millstream.clock import VirtualClock
from millstream.devices import Change, Definition, Device, Expected, Happened, Name, Registry, Status, What, lifecycle
from millstream.devices.tables import devices
from millstream.errors import DeviceError, PreconditionError, QueryError, UnknownDeviceError
from millstream.password import verify_password

PRESS = Name("press-1")


def change(**said: Any) -> Change:
    """As a client says it, in JSON."""
    return msgspec.convert(said, Change)


async def ids(registry: Registry, query: str) -> list[str]:
    return [device.name.device for device in await registry.page(query)]


async def outbox(registry: Registry) -> list[tuple[str, dict[str, Any]]]:
    """What has happened, and what the events say."""
    found = await registry.database.read(lambda connection: lifecycle.waiting(connection, registry.id, 0, 1_000))
    return [(event.topic, event.data) for _, event in found]


async def test_a_device_is_what_was_said_of_it(registry: Registry, clock: VirtualClock) -> None:
    put = await registry.put(PRESS, change(tags={"site": "a", "floor": 3, "ok": True, "place": {"x": 1.5}}))
    assert put.created
    device = await registry.get(PRESS)
    assert device == put.device
    assert device.status is Status.ENABLED
    assert device.tags == {"site": "a", "floor": 3, "ok": True, "place": {"x": 1.5}}
    assert (device.created, device.updated, device.connected) == (clock.now(), clock.now(), False)
    assert device.credentials.kinds() == []


async def test_a_registry_is_there_again(registry: Registry, open_registry: OpenRegistry) -> None:
    made = (await registry.put(PRESS, change(credentials={"keys": {}, "password": "secret", "authority": True}))).device
    again = await open_registry()
    assert again.id == registry.id
    found = await again.get(PRESS)
    assert found == made
    assert found.credentials.keys == made.credentials.keys
    assert found.credentials.password is not None
    assert verify_password(b"secret", found.credentials.password)


async def test_keys_are_not_readable_in_the_database(registry: Registry) -> None:
    device = (await registry.put(PRESS, change(credentials={"keys": {}, "password": "hush-hush"}))).device
    rows = await registry.database.read(lambda connection: str(connection.execute(select(devices)).all()))
    assert device.credentials.keys is not None
    assert device.credentials.keys.primary not in rows
    assert "hush-hush" not in rows
    assert "…" in repr(device.credentials.keys)


async def test_put_replaces_what_it_says_and_keeps_credentials(registry: Registry) -> None:
    first = await registry.put(PRESS, change(status="disabled", tags={"a": 1}, credentials={"keys": {}}))
    second = await registry.put(PRESS, change(tags={"b": 2}))
    assert (second.created, second.changed) == (False, True)
    assert second.device.tags == {"b": 2}
    assert second.device.status is Status.ENABLED
    assert second.device.credentials == first.device.credentials
    assert second.device.generation == first.device.generation
    assert second.device.etag != first.device.etag


async def test_saying_the_same_again_changes_nothing(registry: Registry) -> None:
    first = await registry.put(PRESS, change(tags={"a": 1}))
    again = await registry.put(PRESS, change(tags={"a": 1}))
    assert (again.changed, again.device) == (False, first.device)
    assert len(await outbox(registry)) == 1


async def test_a_patch_changes_what_it_says(registry: Registry) -> None:
    await registry.put(PRESS, change(tags={"a": 1, "b": {"c": 2, "d": 3}}, credentials={"password": "secret"}))
    device = await registry.patch(PRESS, change(status="disabled", status_reason="stolen", tags={"b": {"c": None}}))
    assert device.tags == {"a": 1, "b": {"d": 3}}
    assert (device.status, device.status_reason) == (Status.DISABLED, "stolen")
    assert device.credentials.password is not None
    device = await registry.patch(PRESS, change(status="enabled", credentials={"password": None}))
    assert (device.status_reason, device.credentials.password) == (None, None)


async def test_preconditions(registry: Registry) -> None:
    with pytest.raises(PreconditionError, match="not there"):
        await registry.put(PRESS, change(), expected=Expected(etag="*"))
    first = (await registry.put(PRESS, change(), expected=Expected(absent=True))).device
    with pytest.raises(PreconditionError, match="already"):
        await registry.put(PRESS, change(), expected=Expected(absent=True))
    second = await registry.patch(PRESS, change(tags={"a": 1}), expected=Expected(first.etag))
    for attempt in (
        registry.patch(PRESS, change(tags={"a": 2}), expected=Expected(first.etag)),
        registry.delete(PRESS, expected=Expected(first.etag)),
    ):
        with pytest.raises(PreconditionError, match=second.etag):
            await attempt
    await registry.delete(PRESS, expected=Expected(second.etag))


async def test_of_two_who_change_the_same_state_one_is_told(registry: Registry) -> None:
    etag = (await registry.put(PRESS, change())).device.etag
    changes = [registry.patch(PRESS, change(tags={"n": n}), expected=Expected(etag)) for n in range(10)]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert [isinstance(outcome, Device) for outcome in outcomes].count(True) == 1


async def test_keys_rotate(registry: Registry) -> None:
    before = (await registry.put(PRESS, change(credentials={"keys": {}}))).device.credentials.keys
    after = (await registry.rotate_keys(PRESS)).credentials.keys
    assert before is not None and after is not None
    assert after.secondary == before.primary
    assert after.primary not in (before.primary, before.secondary)
    await registry.put(Name("b"), change())
    with pytest.raises(DeviceError, match="no symmetric keys"):
        await registry.rotate_keys(Name("b"))


async def test_modules_belong_to_their_device(registry: Registry) -> None:
    with pytest.raises(UnknownDeviceError, match="no device 'press-1' that could have a module"):
        await registry.put(Name("press-1", "vision"), change())
    await registry.put(PRESS, change())
    await registry.put(Name("press-1", "vision"), change(tags={"a": 1}))
    await registry.put(Name("press-1", "drive"), change())
    await registry.put(Name("press-2"), change())
    assert [str(each.name) for each in await registry.modules("press-1")] == ["press-1/drive", "press-1/vision"]
    assert [str(each.name) for each in await registry.page()] == ["press-1", "press-2"]
    pages = [
        await registry.page(limit=2, modules=True),
        await registry.page(after=Name("press-1", "drive"), modules=True),
    ]
    assert [[str(each.name) for each in page] for page in pages] == [
        ["press-1", "press-1/drive"],
        ["press-1/vision", "press-2"],
    ]
    await registry.delete(PRESS)
    assert await registry.find(Name("press-1", "vision")) is None
    with pytest.raises(UnknownDeviceError):
        await registry.modules("press-1")


async def test_one_that_is_made_again_is_another(registry: Registry) -> None:
    first = (await registry.put(PRESS, change())).device
    await registry.delete(PRESS)
    with pytest.raises(UnknownDeviceError):
        await registry.delete(PRESS)
    second = (await registry.put(PRESS, change())).device
    assert second.generation != first.generation
    assert second.etag != first.etag


async def test_many_at_once_and_what_is_impossible_among_them(registry: Registry) -> None:
    await registry.put(Name("old"), change(tags={"a": 1}))
    those = [Definition(Name(f"d{n}"), change(tags={"n": n})) for n in range(1_200)]
    those[5] = Definition(Name("d5"), change(tags={"a b": 1}))
    those[6] = Definition(Name("d6"), change(credentials={"password": "a", "password_hash": "b"}))
    those += [Definition(Name("old"), change(tags={"a": 2})), Definition(Name("old"), change(tags={"a": 2}))]
    those += [Definition(Name("new"), change(tags={"a": 1})), Definition(Name("new"), change(tags={"a": 2}))]
    outcomes = await registry.put_many(those)
    wrong = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, DeviceError)]
    assert wrong == [5, 6]
    assert [(each.created, each.changed) for each in outcomes[-4:] if not isinstance(each, DeviceError)] == [
        (False, True),
        (False, False),
        (True, True),
        (False, True),
    ]
    assert (await registry.get(Name("old"))).tags == {"a": 2}
    assert (await registry.get(Name("new"))).tags == {"a": 2}
    assert len(await registry.page(limit=2_000)) == 1_200


async def test_pages_follow_each_other(registry: Registry) -> None:
    names = ["B", "a", "a-", "a1", "b", "b.1", "ba"]
    await registry.put_many([Definition(Name(name), change()) for name in reversed(names)])
    found: list[str] = []
    while page := await registry.page(after=Name(found[-1] if found else ""), limit=3):
        found += [device.name.device for device in page]
    assert found == names  # by code points on every database


TAGS = {
    "a": {"site": "a", "floor": 3, "active": True, "place": {"room": "x"}, "list": [{"n": 1}], "big": 10.5},
    "b": {"site": "b", "floor": "3", "active": False, "it's": "it's", "big": 9},
    "c": {"floor": 4, "site": "B", "list": [1, 2], "1": "one"},
    "d": {},
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("tags.site = 'a'", "a"),
        ("tags.site != 'a'", "bc"),
        ("NOT tags.site = 'a'", "bc"),
        ("tags.site IS NULL", "d"),
        ("tags.site IS NOT NULL AND NOT (tags.site = 'b' OR tags.site = 'B')", "a"),
        ("tags.site IN ('a', 'B')", "ac"),
        ("tags.site NOT IN ('a', 'B')", "b"),
        ("tags.site < 'a'", "c"),
        ("'a' < tags.site", "b"),
        ("tags.floor = 3", "a"),
        ("tags.floor = '3'", "b"),
        ("tags.floor >= 3 AND tags.floor <= 4.0", "ac"),
        ("tags.floor BETWEEN 3.5 AND 5", "c"),
        ("tags.floor > -1", "ac"),
        ("tags.big > 9.5", "a"),
        ("tags.active", "a"),
        ("NOT tags.active", "b"),
        ("tags.active = false", "b"),
        ("tags.active IS TRUE", "a"),
        ("tags.active IS NOT TRUE", "bcd"),
        ("tags.place.room = 'x'", "a"),
        ("tags.place = 'x'", ""),
        ("tags.place.room.deeper = 1", ""),
        ("tags.list.n = 1", ""),
        ('tags.list."0" = 1', ""),
        ("tags.\"1\" = 'one'", "c"),
        ("tags.\"it's\" = 'it''s'", "b"),
        ("starts_with(tags.site, 'a')", "a"),
        ("starts_with(id, '') AND id > 'b'", "cd"),
        ("id = 'a' OR id = 'd'", "ad"),
        ("status = 'disabled'", "d"),
        ("status_reason IS NULL", "abc"),
        ("connected", ""),
        ("NOT connected AND last_activity IS NULL", "abcd"),
        ("created >= '2026-01-01T00:00:00Z'", "abcd"),
        ("created > '2026-01-01T01:00:00+01:00'", ""),
    ],
)
async def test_queries_mean_the_same_everywhere(registry: Registry, query: str, found: str) -> None:
    for name, tags in TAGS.items():
        await registry.put(Name(name), change(tags=tags))
    await registry.patch(Name("d"), change(status="disabled", status_reason="lost"))
    assert "".join(await ids(registry, query)) == found


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "empty"),
        ("tags.site = ", "cannot be read"),
        ("tags.site = 'a", "not closed"),
        ("tags.site = 'a' GROUP BY id", "near 'GROUP BY'"),
        ("id = 'a'; DROP TABLE devices", "cannot be read"),
        ("site = 'a'", "there is no field 'site'; there are tags.NAME"),
        ("tags = 'a'", "there is no field 'tags'"),
        ("tags.a = tags.b", "no text, number"),
        ("1 = 1", "is no field"),
        ("id = 3", "never a number"),
        ("connected = 'yes'", "never a text"),
        ("created > 'yesterday'", "no time"),
        ("starts_with(created, '2026')", "compare a time"),
        ("lower(id) = 'a'", "is no field"),
        ("id LIKE 'a%'", "not supported"),
        ('tags."a b" = 1', "names have no space"),
        ("tags.a = 1" + " AND tags.a = 1" * 200, "more than 2000"),
        ("(" * 900 + "connected" + ")" * 900, "parentheses"),
    ],
)
async def test_a_wrong_query_is_told(registry: Registry, query: str, told: str) -> None:
    with pytest.raises(QueryError, match=told):
        await registry.page(query)


async def test_every_change_leaves_an_event(registry: Registry) -> None:
    await registry.put(PRESS, change(tags={"a": 1}, credentials={"password": "secret"}), by="ann")
    await registry.put(Name("press-1", "vision"), change())
    device = await registry.patch(PRESS, change(status="disabled", status_reason="stolen"))
    await registry.delete(PRESS, by="bob")
    topics, events = zip(*await outbox(registry), strict=True)
    assert list(topics) == [
        "$devices/press-1/created",
        "$devices/press-1/created",
        "$devices/press-1/updated",
        "$devices/press-1/deleted",
        "$devices/press-1/deleted",
    ]
    assert events[0]["by"] == "ann"
    assert events[0]["credentials"] == ["password"]
    assert "secret" not in str(events)
    assert events[1]["module"] == events[3]["module"] == "vision"
    assert (events[2]["status"], events[2]["etag"]) == ("disabled", device.etag)
    time = "2026-01-01T00:00:00Z"
    assert events[4] == {"device": "press-1", "generation": device.generation, "time": time, "by": "bob"}


async def test_what_fails_leaves_neither_a_change_nor_an_event(registry: Registry) -> None:
    for impossible in (
        change(tags={"a": "x" * 9_000}),
        change(credentials={"keys": {"primary": "no"}}),
        change(credentials={"thumbprints": {"primary": "12"}}),
        change(status_reason="x" * 200),
    ):
        with pytest.raises(DeviceError):
            await registry.put(PRESS, impossible)
    assert await registry.page() == []
    assert await outbox(registry) == []


async def test_watchers_are_told_after_the_commit_and_before_the_caller(registry: Registry) -> None:
    told: list[tuple[What, Name]] = []

    def changed(those: Any) -> None:
        told.extend((each.what, each.name) for each in those)

    registry.watch(changed)
    await registry.put(PRESS, change())
    assert told == [(What.CREATED, PRESS)]
    abandoned = asyncio.ensure_future(registry.patch(PRESS, change(status="disabled")))
    await asyncio.sleep(0)
    abandoned.cancel()
    await registry.patch(PRESS, change(tags={"a": 1}))
    assert told[1:] == [*[(What.UPDATED, PRESS)] * 2, (What.TAGS, PRESS)], "also of a change that nobody waited for"


async def test_presence_concerns_the_device_that_there_is(registry: Registry, clock: VirtualClock) -> None:
    device = (await registry.put(PRESS, change())).device
    await clock.advance(5)
    came = Happened(what=What.CONNECTED, name=PRESS, generation=device.generation, time=clock.now())
    other = Happened(what=What.CONNECTED, name=PRESS, generation="another", time=clock.now())
    unknown = Happened(what=What.CONNECTED, name=Name("x"), generation="x", time=clock.now())
    await registry.note([other, unknown], {})
    assert await ids(registry, "connected") == []
    await registry.note([came], {Name("x"): clock.now()})
    found = await registry.get(PRESS)
    assert (found.connected, found.connection_time, found.last_activity) == (True, clock.now(), clock.now())
    assert found.etag == device.etag, "presence is no change of the device"
    assert await registry.connected(10) == {PRESS: device.generation}
    changed = (await registry.put(PRESS, change(tags={"a": 1}))).device
    assert (await registry.get(PRESS)).connected
    assert changed.connected
    assert [topic for topic, _ in await outbox(registry)][1] == "$devices/press-1/connected"
