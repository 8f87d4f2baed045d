"""API keys: what is kept of them, and for how long each is good; over every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from millstream.actor import Actor
from millstream.clock import VirtualClock, to_datetime
from millstream.devices import Registry
from millstream.devices.api_key import ApiKeyGiven, Rotation, parse_key, text_of
from millstream.devices.api_keys import ApiKeys
from millstream.devices.tables import api_keys, outbox
from millstream.errors import DeviceError, UnknownKeyError
from millstream.rights import Role

ANN = Actor("ann", "POST /keys", "192.0.2.1")


async def audited(registry: Registry) -> list[dict[str, Any]]:
    query = select(outbox.c.data).where(outbox.c.topic.like("$audit/%")).order_by(outbox.c.number)
    rows = await registry.database.read(lambda connection: connection.execute(query).all())
    return [msgspec.json.decode(row.data) for row in rows]


async def test_the_first_start_makes_an_admins_key_and_no_other_does(registry: Registry) -> None:
    keys = ApiKeys(registry)
    assert await keys.start(make_first=False) is None
    made = await keys.start(make_first=True)
    assert made is not None and made.key.role is Role.ADMIN
    assert keys.find(made.text) == made.key
    await keys.revoke(made.key.id)
    again = ApiKeys(registry)
    assert await again.start(make_first=True) is None
    assert again.find(made.text) is None


async def test_a_key_survives_and_its_secret_is_kept_nowhere(registry: Registry) -> None:
    keys = ApiKeys(registry)
    made = await keys.create(ApiKeyGiven(role=Role.VIEWER, note="for Grafana"), ANN)
    again = ApiKeys(registry)
    await again.start(make_first=False)
    assert again.find(made.text) == made.key
    assert made.key.by == "ann"
    rows = await registry.database.read(lambda connection: connection.execute(select(api_keys)).all())
    secret = made.text.split("_", 2)[2]
    assert secret not in repr(rows) + repr(made) + repr(made.key) + repr(await audited(registry))
    assert "key" not in made.key.shown()


async def test_whatever_is_no_key_is_none(registry: Registry) -> None:
    keys = ApiKeys(registry)
    made = await keys.create(ApiKeyGiven(role=Role.ADMIN))
    other = await keys.create(ApiKeyGiven(role=Role.ADMIN))
    secret = made.text.split("_", 2)[2]
    mixed = text_of(other.key.id, secret), text_of("x", secret)
    for wrong in ("", "msk_", made.text[:-1], made.text + "x", secret, *mixed):
        assert keys.find(wrong) is None, wrong


@given(st.text())
def test_any_text_is_a_key_or_none(text: str) -> None:
    for each in (text, "msk_" + text):
        parsed = parse_key(each)
        assert parsed is None or text_of(*parsed) == each


async def test_a_rotated_key_has_two_secrets_for_a_while(registry: Registry, clock: VirtualClock) -> None:
    keys = ApiKeys(registry)
    made = await keys.create(ApiKeyGiven(role=Role.OPERATOR))
    second = await keys.rotate(made.key.id, Rotation(keep_seconds=60), ANN)
    assert keys.find(made.text) and keys.find(second.text)
    await clock.advance(60)
    assert keys.find(made.text) is None
    third = await keys.rotate(made.key.id, Rotation(), ANN)
    assert keys.find(second.text) is None
    assert keys.find(third.text) is not None


async def test_a_key_expires(registry: Registry, clock: VirtualClock) -> None:
    keys = ApiKeys(registry)
    made = await keys.create(ApiKeyGiven(role=Role.VIEWER, expires=to_datetime(clock.now() + 60_000_000)))
    assert keys.find(made.text) is not None
    await clock.advance(60)
    assert keys.find(made.text) is None


async def test_what_is_impossible_is_refused(registry: Registry) -> None:
    keys = ApiKeys(registry)
    past = datetime(2000, 1, 1, tzinfo=UTC)
    for wrong in (
        ApiKeyGiven(role=Role.DEVICE),
        ApiKeyGiven(role=Role.DEVICE, device="a+b"),
        ApiKeyGiven(role=Role.ADMIN, device="press-1"),
        ApiKeyGiven(role=Role.ADMIN, note="\0"),
        ApiKeyGiven(role=Role.ADMIN, expires=past),
    ):
        with pytest.raises(DeviceError):
            await keys.create(wrong)
    for act in (keys.rotate("none", Rotation()), keys.revoke("none")):
        with pytest.raises(UnknownKeyError):
            await act
    assert await audited(registry) == []


async def test_every_change_has_an_entry_in_the_audit_log(registry: Registry) -> None:
    keys = ApiKeys(registry)
    made = await keys.create(ApiKeyGiven(role=Role.VIEWER), ANN)
    await keys.rotate(made.key.id, Rotation(), ANN)
    await keys.revoke(made.key.id, ANN)
    entries = await audited(registry)
    assert len(entries) == 3
    for entry in entries:
        assert (entry["outcome"], entry["by"], entry["from"]) == ("done", "ann", "192.0.2.1")
        assert entry["key"] == made.key.id


async def test_keys_come_page_by_page(registry: Registry) -> None:
    keys = ApiKeys(registry)
    made = sorted([(await keys.create(ApiKeyGiven(role=Role.VIEWER))).key.id for _ in range(5)])
    first = keys.page(limit=3)
    assert [key.id for key in first + keys.page(after=first[-1].id)] == made
