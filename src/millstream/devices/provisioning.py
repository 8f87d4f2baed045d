"""Provisioning: a device that holds a key of an enrollment registers itself, and is in the registry then.

It shows a token for the resource `provisioning/registrations/ID`, signed with its own key (that of an individual
enrollment, or one derived from a group's). With the same key it connects as a device afterwards.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from millstream.clock import Clock
from millstream.devices.credentials import Credentials, SymmetricKeys
from millstream.devices.device import Device, Status
from millstream.devices.enrollment import Again, Enrollment, Kind
from millstream.devices.enrollments import Enrollments
from millstream.devices.name import Name, check_id
from millstream.devices.token import Token
from millstream.devices.twin import Side, Sides
from millstream.devices.twins import save_twin
from millstream.devices.work import Work
from millstream.errors import DeviceError, RegistrationError, TokenError

_PREFIX = "provisioning/registrations/"


class Applicant(NamedTuple):
    """Who may register: a registration id, the enrollment that lets it in, and a digest of the key it has shown."""

    registration_id: str
    enrollment: str
    digest: str


class Outcome(enum.StrEnum):
    """What came of a registration."""

    CREATED = "created"
    KEPT = "kept"
    RESET = "reset"


class Registered(NamedTuple):
    """A device that is registered."""

    device: Device
    outcome: Outcome

    def shown(self) -> dict[str, Any]:
        """For the device, as JSON."""
        return {"device": self.device.name.device, "outcome": self.outcome}


def registration_of(resource: str | None) -> str | None:
    """The registration id that a token's resource, or a user name, stands for; None if it is none."""
    text = unquote(resource or "")
    registration_id = text.removeprefix(_PREFIX)
    if registration_id == text:
        return None
    try:
        check_id(registration_id, "registration")
    except DeviceError:
        return None
    return registration_id


def resource_of_registration(registration_id: str) -> str:
    """What its token is for, and its user name by MQTT."""
    return _PREFIX + registration_id


class Provisioning:
    """Lets applicants in, and registers them."""

    def __init__(self, enrollments: Enrollments, clock: Clock) -> None:
        self._enrollments = enrollments
        self._clock = clock

    async def admit(self, registration_id: str, text: str) -> Applicant:
        """Who shows a token for a registration id. An individual enrollment of that id counts alone, so that one which
        is disabled keeps a device out of its group. `TokenError`: it lets nobody in."""
        token = Token.parse(text)
        individual = await self._enrollments.find(registration_id)
        if individual is not None and individual.kind is Kind.INDIVIDUAL:
            candidates = [individual]
        else:
            candidates = await self._enrollments.groups()
        owners: dict[str, Enrollment] = {}
        for each in candidates:
            if each.status is Status.ENABLED:
                its = each.keys_of(registration_id)
                owners.update(dict.fromkeys((its.primary, its.secondary), each))
        key = token.check(list(owners), [resource_of_registration(registration_id)], self._clock.now())
        return Applicant(registration_id, owners[key].id, _digest(key))

    async def register(self, applicant: Applicant) -> Registered:
        """Have it in the registry. Whoever registers again is the same device. `TokenError`: what it has shown is good
        no more; `RegistrationError`: it may not."""
        enrollment = await self._enrollments.find(applicant.enrollment)
        if enrollment is None:
            raise TokenError(f"there is no enrollment {applicant.enrollment!r} any more")
        name = Name(enrollment.device_of(applicant.registration_id))
        return await self._enrollments.registry.transact(
            [name], f"enrollment {applicant.enrollment!r}", lambda work: self._register(work, name, applicant)
        )

    def _register(self, work: Work, name: Name, applicant: Applicant) -> Registered:
        its = self._enrollments.store.find(work.connection, applicant.enrollment)
        registration_id = applicant.registration_id
        if its is None or its.status is Status.DISABLED or its.device_of(registration_id) != name.device:
            raise TokenError(f"enrollment {applicant.enrollment!r} is disabled, or is not what it was")
        keys = its.keys_of(registration_id)
        if applicant.digest not in (_digest(keys.primary), _digest(keys.secondary)):
            raise TokenError("the key that was shown is not valid any more")
        found = work.find(name)
        if found is None:
            return Registered(_create(work, name, its, keys), Outcome.CREATED)
        _check(found, its)
        credentials = msgspec.structs.replace(found.credentials, keys=keys)
        device = msgspec.structs.replace(found, credentials=credentials, enrollment=its.id)
        if its.again is Again.KEEP:
            return Registered(work.replace(found, device), Outcome.KEPT)
        device = work.replace(found, msgspec.structs.replace(device, tags=its.tags))
        save_twin(work, device, Sides(Side(its.desired), Side()))
        return Registered(device, Outcome.RESET)


def _create(work: Work, name: Name, its: Enrollment, keys: SymmetricKeys) -> Device:
    blank = work.blank(name, Credentials(keys=keys))
    device = work.add(msgspec.structs.replace(blank, tags=its.tags, enrollment=its.id))
    save_twin(work, device, Sides(Side(its.desired), Side()))
    return device


def _check(found: Device, its: Enrollment) -> None:
    """Whoever has a group's key can derive that of any registration id: it must not become a device of others."""
    who = f"device {str(found.name)!r}"
    if found.enrollment != its.id and (found.enrollment is None or its.kind is not Kind.INDIVIDUAL):
        raise RegistrationError(f"{who} is there already, and has not come in by enrollment {its.id!r}")
    if found.status is Status.DISABLED:
        raise RegistrationError(f"{who} is disabled")
    if its.again is Again.REFUSE:
        raise RegistrationError(f"{who} is registered already, and enrollment {its.id!r} refuses it another time")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
