"""Provisioning: a device that holds a key of an enrollment registers itself, and is in the registry then.

It shows a token for the resource `provisioning/registrations/ID`, signed with its own key (that of an individual
enrollment, or one derived from a group's), or a certificate that its enrollment vouches for. With the same key, or the
same certificate, it connects as a device afterwards.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict
from urllib.parse import unquote

import msgspec

from millstream.actor import NOBODY, Actor
from millstream.allocation import Allocation, Allocator, Registration
from millstream.clock import Clock
from millstream.devices.credentials import Credentials, Thumbprints
from millstream.devices.device import Device, Status
from millstream.devices.enrollment import Again, Enrollment, Kind
from millstream.devices.enrollments import Enrollments
from millstream.devices.name import Name, check_id
from millstream.devices.token import Token
from millstream.devices.twin import Side, Sides
from millstream.devices.twins import save_twin
from millstream.devices.work import Work
from millstream.errors import DeviceError, OverloadError, RegistrationError, TokenError

_PREFIX = "provisioning/registrations/"


class Applicant(NamedTuple):
    """Who may register: a registration id, the enrollment that lets it in, and a digest of the key it has shown."""

    registration_id: str
    enrollment: str
    digest: str
    """Of the key that it has shown, or of what its enrollment trusted then."""
    thumbprint: str | None = None
    """Of the certificate that it has shown in place of a key."""


class Outcome(enum.StrEnum):
    """What came of a registration."""

    CREATED = "created"
    KEPT = "kept"
    RESET = "reset"


class RegisteredShown(TypedDict):
    """Which device it is now."""

    device: str
    outcome: Outcome
    hub: NotRequired[str]


class Registered(NamedTuple):
    """A device that is registered, and where it is to connect, if that was said."""

    device: Device
    outcome: Outcome
    hub: str | None = None

    def shown(self) -> RegisteredShown:
        """For the device, as JSON."""
        shown: RegisteredShown = {"device": self.device.name.device, "outcome": self.outcome}
        if self.hub is not None:
            shown["hub"] = self.hub
        return shown


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
        self.allocator: Allocator = _nobody_decides
        """Whom enrollments that let an application decide ask."""

    async def admit(self, registration_id: str, text: str) -> Applicant:
        """Who shows a token for a registration id. An individual enrollment of that id counts alone, so that one which
        is disabled keeps a device out of its group. `TokenError`: it lets nobody in."""
        token = Token.parse(text)
        owners: dict[str, Enrollment] = {}
        for each in await self._candidates(registration_id):
            its = each.keys_of(registration_id)
            owners.update(dict.fromkeys((its.primary, its.secondary), each))
        key = token.check(list(owners), [resource_of_registration(registration_id)], self._clock.now())
        return Applicant(registration_id, owners[key].id, _digest(key))

    async def admit_by_certificate(
        self, registration_id: str, chain: Sequence[bytes], digests: Sequence[str]
    ) -> Applicant:
        """Who shows a certificate (its digests, SHA-256 first) that is for a registration id, and was checked by a
        `chain` that begins with it. `RegistrationError`: no enrollment vouches for it."""
        now = self._clock.now()
        for each in await self._candidates(registration_id):
            if each.vouches_for(chain, digests, now):
                return Applicant(registration_id, each.id, each.trust, digests[0])
        raise RegistrationError(f"no enrollment vouches for the certificate of {registration_id!r}")

    async def _candidates(self, registration_id: str) -> list[Enrollment]:
        """The enrollments that may let one in."""
        individual = await self._enrollments.find(registration_id)
        if individual is not None and individual.kind is Kind.INDIVIDUAL:
            candidates = [individual]
        else:
            candidates = await self._enrollments.groups()
        return [each for each in candidates if each.status is Status.ENABLED]

    async def register(self, applicant: Applicant, asked: Actor = NOBODY) -> Registered:
        """Have it in the registry. Whoever registers again is the same device. `TokenError`: what it has shown is good
        no more; `RegistrationError`: it may not. `OverloadError`: the application that decides about it cannot
        be asked. `asked`: how, and from where."""
        enrollment = await self._enrollments.find(applicant.enrollment)
        if enrollment is None:
            raise TokenError(f"there is no enrollment {applicant.enrollment!r} any more")
        usual = enrollment.device_of(applicant.registration_id)
        allocation = Allocation()
        if enrollment.allocate:
            asking = Registration(applicant.registration_id, enrollment.id, enrollment.tags, enrollment.desired)
            allocation = await self.allocator(asking)
            _check_allocated(allocation.device, applicant)
        name = Name(allocation.device or usual)
        registered = await self._enrollments.registry.transact(
            [name],
            asked._replace(name=f"enrollment {applicant.enrollment!r}"),
            lambda work: self._register(work, name, usual, applicant, allocation),
        )
        return registered._replace(hub=allocation.hub)

    def _register(self, work: Work, name: Name, usual: str, applicant: Applicant, allocation: Allocation) -> Registered:
        its = self._enrollments.store.find(work.connection, applicant.enrollment)
        if its is None or its.status is Status.DISABLED or its.device_of(applicant.registration_id) != usual:
            raise TokenError(f"enrollment {applicant.enrollment!r} is disabled, or is not what it was")
        shown = _shown(its, applicant)
        its = its.with_patches(allocation.tags, allocation.desired)
        found = work.find(name)
        if found is None:
            return Registered(_create(work, name, its, shown), Outcome.CREATED)
        _check(found, its)
        credentials = msgspec.structs.replace(found.credentials, **shown)
        device = msgspec.structs.replace(found, credentials=credentials, enrollment=its.id)
        if its.again is Again.KEEP:
            return Registered(work.replace(found, device), Outcome.KEPT)
        device = work.replace(found, msgspec.structs.replace(device, tags=its.tags))
        save_twin(work, device, Sides(Side(its.desired), Side()))
        return Registered(device, Outcome.RESET)


async def _nobody_decides(registration: Registration) -> Allocation:
    raise OverloadError(f"no application is there that could decide about {registration.id!r}")


def _check_allocated(device: str | None, applicant: Applicant) -> None:
    """Whether an application may have given that id."""
    if device is None:
        return
    who = f"the application has made {applicant.registration_id!r} the device {device!r}"
    try:
        check_id(device, "device")
    except DeviceError as error:
        raise RegistrationError(f"{who}: {error}") from None
    if applicant.thumbprint is not None and device != applicant.registration_id:
        raise RegistrationError(f"{who}, and its certificate is good for the name that stands in it only")


def _shown(its: Enrollment, applicant: Applicant) -> dict[str, Any]:
    """The credentials of a device that is to come in with what it has shown. `TokenError`: that is good no more."""
    if applicant.thumbprint is not None:
        if applicant.digest != its.trust:
            raise TokenError("the enrollment has changed what it trusts since the certificate was shown; connect again")
        return {"thumbprints": Thumbprints(applicant.thumbprint)}
    keys = its.keys_of(applicant.registration_id)
    if applicant.digest not in (_digest(keys.primary), _digest(keys.secondary)):
        raise TokenError("the key that was shown is not valid any more")
    return {"keys": keys}


def _create(work: Work, name: Name, its: Enrollment, shown: dict[str, Any]) -> Device:
    blank = work.blank(name, Credentials(**shown))
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
