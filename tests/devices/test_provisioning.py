"""Enrollments and registrations, over every database."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from tests.devices.conftest import OpenRegistry
from tests.devices.test_registry import PRESS, change, outbox

from millstream.allocation import Allocation, Registration
from millstream.clock import SECOND, VirtualClock
from millstream.devices import (
    Applicant,
    EnrollmentChange,
    Enrollments,
    Expected,
    Name,
    Provisioning,
    Registry,
    Status,
    Twins,
    derive_key,
    make_token,
    registration_of,
    resource_of_registration,
)
from millstream.devices.tables import enrollments as table
from millstream.errors import DeviceError, PreconditionError, RegistrationError, TokenError, UnknownEnrollmentError

HOUR = 3_600 * SECOND
KEY = base64.b64encode(b"the key of the third line").decode()


def said(**members: Any) -> EnrollmentChange:
    return msgspec.convert(members, EnrollmentChange)


@pytest.fixture
def enrollments(registry: Registry) -> Enrollments:
    return Enrollments(registry)


@pytest.fixture
async def provisioning(enrollments: Enrollments, clock: VirtualClock) -> Provisioning:
    """With a group whose key is known."""
    await enrollments.put("line-3", said(keys={"primary": KEY}, tags={"site": "a"}, desired={"speed": 3}), by="ann")
    return Provisioning(enrollments, clock)


def token(clock: VirtualClock, registration_id: str = "press-1", group_key: str = KEY) -> str:
    key = derive_key(group_key, registration_id)
    return make_token(key, resource_of_registration(registration_id), clock.now() + HOUR)


async def admitted(provisioning: Provisioning, clock: VirtualClock, registration_id: str = "press-1") -> Applicant:
    return await provisioning.admit(registration_id, token(clock, registration_id))


def test_a_derived_key_is_that_of_azure() -> None:
    """As https://learn.microsoft.com/azure/iot-dps/how-to-legacy-device-symm-key computes it with openssl."""
    master = "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw=="
    expected = "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc="
    assert derive_key(master, "sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6") == expected


async def test_a_device_of_a_group_comes_into_the_registry(
    provisioning: Provisioning, registry: Registry, clock: VirtualClock
) -> None:
    registered = await provisioning.register(await admitted(provisioning, clock))
    assert registered.shown() == {"device": "press-1", "outcome": "created"}
    device = await registry.get(PRESS)
    assert (device.enrollment, device.tags, device.status) == ("line-3", {"site": "a"}, Status.ENABLED)
    assert device.credentials.keys is not None
    assert device.credentials.keys.primary == derive_key(KEY, "press-1")
    assert (await Twins(registry).get(PRESS)).sides.desired.content == {"speed": 3}
    assert [each.name for each in await registry.page("enrollment = 'line-3'")] == [PRESS]
    topics = [topic for topic, _ in await outbox(registry)]
    assert topics == ["$enrollments/line-3/created", "$devices/press-1/created", "$twins/press-1/desired"]
    (made, created, _) = [data for _, data in await outbox(registry)]
    assert (made["by"], made["kind"]) == ("ann", "group")
    assert (created["by"], created["enrollment"]) == ("enrollment 'line-3'", "line-3")
    assert KEY not in str(await outbox(registry))


async def test_who_registers_again_is_the_same_device(
    provisioning: Provisioning, registry: Registry, clock: VirtualClock
) -> None:
    applicant = await admitted(provisioning, clock)
    first = (await provisioning.register(applicant)).device
    await registry.patch(PRESS, change(tags={"mine": True}))
    again = await provisioning.register(applicant)
    assert (again.outcome, again.device.generation) == ("kept", first.generation)
    assert again.device.tags == {"site": "a", "mine": True}
    count = len(await outbox(registry))
    await provisioning.register(applicant)
    assert len(await outbox(registry)) == count, "a request that comes again changes nothing"


async def test_what_becomes_of_who_registers_again(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    applicant = await admitted(provisioning, clock)
    await provisioning.register(applicant)
    await registry.patch(PRESS, change(tags={"mine": True}))
    await enrollments.patch("line-3", said(again="reset", desired={"speed": 4}))
    again = await provisioning.register(applicant)
    assert (again.outcome, again.device.tags) == ("reset", {"site": "a"})
    desired = (await Twins(registry).get(PRESS)).sides.desired
    assert (desired.content, desired.version) == ({"speed": 4}, 2)
    await enrollments.patch("line-3", said(again="refuse"))
    with pytest.raises(RegistrationError, match="registered already"):
        await provisioning.register(applicant)


async def test_a_group_takes_no_device_of_others(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    """Whoever has the group's key can derive that of any device."""
    await registry.put(PRESS, change(credentials={"password": "secret"}))
    with pytest.raises(RegistrationError, match="not come in by enrollment 'line-3'"):
        await provisioning.register(await admitted(provisioning, clock))
    other = base64.b64encode(b"the key of another line...").decode()
    await enrollments.put("line-4", said(keys={"primary": other}))
    await provisioning.register(await admitted(provisioning, clock, "press-2"))
    stranger = await provisioning.admit("press-2", token(clock, "press-2", other))
    assert stranger.enrollment == "line-4"
    with pytest.raises(RegistrationError):
        await provisioning.register(stranger)


async def test_an_individual_enrollment_goes_before_its_group(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    await provisioning.register(await admitted(provisioning, clock))
    made = (await enrollments.put("press-1", said(kind="individual", tags={"own": True}))).enrollment
    with pytest.raises(TokenError, match="signature"):
        await admitted(provisioning, clock)
    own = make_token(made.keys.secondary, resource_of_registration("press-1"), clock.now() + HOUR)
    moved = await provisioning.register(await provisioning.admit("press-1", own))
    assert (moved.outcome, moved.device.enrollment) == ("kept", "press-1")
    assert moved.device.credentials.keys == made.keys
    await enrollments.patch("press-1", said(device="machine-1"))
    other = await provisioning.register(await provisioning.admit("press-1", own))
    assert (other.device.name, other.outcome) == (Name("machine-1"), "created")
    await enrollments.patch("press-1", said(status="disabled", status_reason="lost"))
    for shown in (own, token(clock)):
        with pytest.raises(TokenError):
            await provisioning.admit("press-1", shown)


async def test_what_is_revoked_meanwhile_registers_nobody(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    applicant = await admitted(provisioning, clock)
    await enrollments.patch("line-3", said(status="disabled"))
    with pytest.raises(TokenError, match="disabled"):
        await provisioning.register(applicant)
    await enrollments.patch("line-3", said(status="enabled"))
    await enrollments.rotate_keys("line-3")
    assert (await provisioning.register(applicant)).outcome == "created", "the secondary key by now"
    await enrollments.rotate_keys("line-3")
    with pytest.raises(TokenError, match="not valid any more"):
        await provisioning.register(applicant)
    with pytest.raises(TokenError, match="signature"):
        await admitted(provisioning, clock)
    await enrollments.delete("line-3")
    with pytest.raises(TokenError, match="no enrollment"):
        await provisioning.register(applicant)
    assert (await registry.get(PRESS)).status is Status.ENABLED, "devices stay"


async def test_a_disabled_device_stays_disabled(
    provisioning: Provisioning, registry: Registry, clock: VirtualClock
) -> None:
    applicant = await admitted(provisioning, clock)
    await provisioning.register(applicant)
    await registry.patch(PRESS, change(status="disabled"))
    with pytest.raises(RegistrationError, match="is disabled"):
        await provisioning.register(applicant)


async def test_all_devices_of_an_enrollment_are_disabled(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    await registry.put(Name("other"), change())
    for number in range(3):
        await provisioning.register(await admitted(provisioning, clock, f"press-{number}"))
    assert await enrollments.disable_devices("line-3", "stolen") == 3
    assert [str(each.name) for each in await registry.page("status = 'enabled'")] == ["other"]
    assert await enrollments.disable_devices("it's", "x") == 0


async def test_enrollments_are_changed_and_there_again(
    registry: Registry, enrollments: Enrollments, open_registry: OpenRegistry
) -> None:
    put = await enrollments.put("a", said(tags={"x": 1}, again="reset"))
    assert put.created
    again = await enrollments.put("a", said(tags={"y": 2}))
    assert (again.created, again.enrollment.again, again.enrollment.tags) == (False, "keep", {"y": 2})
    assert again.enrollment.keys == put.enrollment.keys
    with pytest.raises(PreconditionError, match="enrollment 'a' has the etag"):
        await enrollments.patch("a", said(tags={"z": 3}), expected=Expected(put.enrollment.etag))
    patched = await enrollments.patch("a", said(tags={"z": 3}), expected=Expected(again.enrollment.etag))
    assert patched.tags == {"y": 2, "z": 3}
    with pytest.raises(PreconditionError, match="already"):
        await enrollments.put("a", said(), expected=Expected(absent=True))
    assert await enrollments.patch("a", said(tags={"z": 3})) == patched
    await enrollments.put("b", said(kind="individual"))
    found = Enrollments(await open_registry())
    assert await found.get("a") == patched
    assert [each.id for each in await found.page()] == ["a", "b"]
    assert [each.id for each in await found.page("a", 1)] == ["b"]
    assert [each.id for each in await found.groups()] == ["a"]
    rows = await found.registry.database.read(lambda connection: str(connection.execute(select(table)).all()))
    assert patched.keys.primary not in rows


@pytest.mark.parametrize(
    ("enrollment_id", "members", "told"),
    [
        ("a b", {}, "enrollment id 'a b'"),
        ("a", {"device": "x"}, "registration ids"),
        ("a", {"kind": "individual", "device": "a/b"}, "device id"),
        ("a", {"tags": {"a b": 1}}, "tags has a member"),
        ("a", {"desired": {"a": "x" * 40_000}}, "desired of"),
        ("a", {"keys": {"primary": "x"}}, "symmetric key"),
        ("there", {"kind": "individual"}, "is group, and stays that"),
    ],
)
async def test_impossible_enrollments_are_told(
    enrollments: Enrollments, enrollment_id: str, members: dict[str, Any], told: str
) -> None:
    await enrollments.put("there", said())
    with pytest.raises(DeviceError, match=told):
        await enrollments.put(enrollment_id, said(**members))
    assert [each.id for each in await enrollments.page()] == ["there"]


async def test_there_are_only_so_many_groups(enrollments: Enrollments) -> None:
    for number in range(100):
        await enrollments.put(f"g{number}", said())
    with pytest.raises(DeviceError, match="100 groups"):
        await enrollments.put("one-more", said())
    await enrollments.put("one-more", said(kind="individual"))


async def test_what_is_not_there_is_told(enrollments: Enrollments) -> None:
    for attempt in (
        enrollments.get("x"),
        enrollments.patch("x", said()),
        enrollments.delete("x"),
        enrollments.rotate_keys("x"),
    ):
        with pytest.raises(UnknownEnrollmentError, match="no enrollment 'x'"):
            await attempt


@pytest.mark.parametrize(
    ("resource", "registration_id"),
    [
        ("provisioning/registrations/a", "a"),
        ("provisioning%2Fregistrations%2Fa", "a"),
        ("provisioning/registrations/", None),
        ("provisioning/registrations/a/b", None),
        ("provisioning/registrations/+", None),
        ("provisioning/registrations/" + "x" * 129, None),
        ("devices/a", None),
        ("", None),
        (None, None),
    ],
)
def test_resources_of_registrations(resource: str | None, registration_id: str | None) -> None:
    assert registration_of(resource) == registration_id


async def deciding(provisioning: Provisioning, enrollments: Enrollments, **decided: Any) -> None:
    async def decide(registration: Registration) -> Allocation:
        return msgspec.convert(decided, Allocation)

    provisioning.allocator = decide
    await enrollments.patch("line-3", said(allocate=True))


async def test_an_application_gives_another_id_and_a_hub(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    await deciding(provisioning, enrollments, device="hall-2.press", hub="mqtts://hall-2.example:8883")
    for outcome in ("created", "kept"):
        registered = await provisioning.register(await admitted(provisioning, clock))
        told = {"device": "hall-2.press", "outcome": outcome, "hub": "mqtts://hall-2.example:8883"}
        assert registered.shown() == told
    device = await registry.get(Name("hall-2.press"))
    assert device.credentials.keys is not None
    assert device.credentials.keys.primary == derive_key(KEY, "press-1")
    assert await registry.find(PRESS) is None


async def test_who_is_given_an_id_that_is_there_takes_its_place(
    provisioning: Provisioning, enrollments: Enrollments, registry: Registry, clock: VirtualClock
) -> None:
    await deciding(provisioning, enrollments, device="press")
    await provisioning.register(await admitted(provisioning, clock, "controller-1"))
    before = await registry.get(Name("press"))
    registered = await provisioning.register(await admitted(provisioning, clock, "controller-2"))
    after = registered.device
    assert (after.name, after.generation) == (before.name, before.generation)
    assert after.credentials.keys is not None
    assert after.credentials.keys.primary == derive_key(KEY, "controller-2")


@pytest.mark.parametrize(
    ("device", "why"), [("a/b", "the device 'a/b': "), ("", "the device ''"), ("theirs", "has not come in by")]
)
async def test_an_id_that_cannot_be_given_is_refused(
    provisioning: Provisioning,
    enrollments: Enrollments,
    registry: Registry,
    clock: VirtualClock,
    device: str,
    why: str,
) -> None:
    await registry.put(Name("theirs"), change())
    await deciding(provisioning, enrollments, device=device)
    with pytest.raises(RegistrationError, match=re.escape(why)):
        await provisioning.register(await admitted(provisioning, clock))


async def test_a_certificate_keeps_its_name(
    provisioning: Provisioning, enrollments: Enrollments, clock: VirtualClock
) -> None:
    await deciding(provisioning, enrollments, device="press-2")
    applicant = (await admitted(provisioning, clock))._replace(thumbprint="00" * 32)
    with pytest.raises(RegistrationError, match="its certificate is good for the name that stands in it only"):
        await provisioning.register(applicant)
