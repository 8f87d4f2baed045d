"""Devices of the registry come in beside the users of the settings: by password, by a signed token, by certificate.

A device shows its name as the user name (a module `DEVICE/MODULE`), and its password, or a token in the password's
place; or a certificate, whose common name is its name. Whoever the settings name is a user, and no device. A change of
the registry that comes while a device is checked makes the check begin anew: so nobody comes in with what is good no
more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from millstream.clock import Clock
from millstream.devices import (
    Admitted,
    Device,
    Happened,
    Name,
    Provisioning,
    Registry,
    admit,
    admit_by_certificate,
    admit_by_token,
    may_connect,
    registration_of,
)
from millstream.devices.login import PASSWORD
from millstream.devices.token import SCHEME
from millstream.errors import DeviceError, RegistrationError, RegistryUnavailableError, TokenError
from millstream.gateway.devices.known_devices import KnownDevices
from millstream.gateway.devices.registration_desk import ApplicantRights
from millstream.gateway.listeners.auth import BusyError, Credentials, Identity, NotAuthenticatedError, UserAuthenticator
from millstream.password import PasswordHash
from millstream.rights import Rights

_log = logging.getLogger(__name__)

_WRONG = "user name or password is wrong"
_WRONG_CERTIFICATE = "the device of this name has another certificate, see its credentials in the registry"


class DeviceAuthenticator:
    """See `Authenticator`. `rights` gives what a device with a client identifier may do; `heard` is told of each that
    has come in."""

    def __init__(
        self,
        users: UserAuthenticator,
        registry: Registry,
        provisioning: Provisioning,
        rights: Callable[[str, str], Rights],
        heard: Callable[[Name], None],
        clock: Clock,
    ) -> None:
        self._users = users
        self._known = KnownDevices(registry)
        self._provisioning = provisioning
        self._rights = rights
        self._heard = heard
        self._clock = clock
        self._under_way: set[_Attempt] = set()
        self._is_away = False
        self._nobody = PasswordHash.impossible()
        registry.watch(self._changed)

    def recall(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`. Whether a device comes in, only the registry tells."""
        name = _claimed_by(credentials)
        if name is not None and not self._users.knows(name):
            return None
        return self._users.recall(credentials)

    async def authenticate(self, credentials: Credentials) -> Identity:
        """See `Authenticator`."""
        registration_id = registration_of(credentials.user_name)
        if registration_id is not None and not self._users.knows(credentials.user_name or ""):
            return await self._apply(registration_id, credentials)
        name = _name(_claimed_by(credentials))
        if name is None or self._users.knows(str(name)):
            return await self._users.authenticate(credentials)
        while True:
            with self._attempt(name) as attempt:
                identity = await self._try(name, credentials)
                if not attempt.outdated:
                    return identity

    def close(self) -> None:
        """See `Authenticator`."""
        self._users.close()

    async def _try(self, name: Name, credentials: Credentials) -> Identity:
        device = await self._find(name)
        if device is None and (credentials.certificate is not None or self._users.lets_anybody_in):
            return await self._users.authenticate(credentials)
        if credentials.certificate is None:
            admitted = await self._admit(name, device, credentials)
        else:
            shown = credentials.certificate.thumbprints
            admitted = admit_by_certificate(device, shown) if device is not None else None
        if device is None or admitted is None:
            raise NotAuthenticatedError(_WRONG if credentials.certificate is None else _WRONG_CERTIFICATE)
        parent = await self._find(Name(name.device)) if name.module else None
        if not may_connect(device, parent):
            raise NotAuthenticatedError(f"device {str(name)!r} is disabled")  # only who has its password is told
        self._heard(name)
        return Identity(str(name), self._rights(name.device, credentials.client_id), admitted)

    async def _apply(self, registration_id: str, credentials: Credentials) -> Identity:
        """One that is no device yet. Whether its key is still good, is looked at again when it registers."""
        text = (credentials.password or b"").decode("utf-8", "replace")
        shown = credentials.certificate
        if shown is not None and shown.common_name != registration_id:
            raise NotAuthenticatedError(f"the certificate is for {shown.common_name!r}, and not {registration_id!r}")
        with self._answering():
            try:
                if shown is None or text:
                    applicant = await self._provisioning.admit(registration_id, text)
                else:
                    its, chain = shown.thumbprints, shown.chain
                    applicant = await self._provisioning.admit_by_certificate(registration_id, chain, its)
            except (TokenError, RegistrationError) as error:
                raise NotAuthenticatedError(str(error)) from None
        return Identity(credentials.user_name, ApplicantRights(registration_id), applicant=applicant)

    async def _find(self, name: Name) -> Device | None:
        with self._answering():
            return await self._known.find(name)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """The operator is told once why a registry does not answer, and devices only that it does not."""
        try:
            yield
        except RegistryUnavailableError as error:
            if not self._is_away:
                _log.error("no device can come in: %s", error)
            self._is_away = True
            raise BusyError("the registry of devices does not answer; try again later") from error
        self._is_away = False

    async def _admit(self, name: Name, device: Device | None, credentials: Credentials) -> Admitted | None:
        """An unknown device costs what a known one does, so that names cannot be found out."""
        password = credentials.password or b""
        if password.startswith(SCHEME.encode()):
            return self._admit_by_token(device, password)
        hashed = device.credentials.password if device is not None else None
        known = self._nobody if hashed is None else PasswordHash.parse(hashed)
        fits = await self._users.checks.fits(str(name), known, password, credentials.address)
        return admit(device, PASSWORD, hashed) if fits and device is not None and hashed is not None else None

    def _admit_by_token(self, device: Device | None, password: bytes) -> Admitted | None:
        if device is None:
            return None
        try:
            return admit_by_token(device, password.decode("utf-8", "replace"), self._clock.now())
        except TokenError as error:
            raise NotAuthenticatedError(str(error)) from None

    @contextmanager
    def _attempt(self, name: Name) -> Iterator[_Attempt]:
        attempt = _Attempt(name.device)
        self._under_way.add(attempt)
        try:
            yield attempt
        finally:
            self._under_way.discard(attempt)

    def _changed(self, happened: Sequence[Happened]) -> None:
        if self._under_way:
            devices = {each.name.device for each in happened if each.device is not None}
            for attempt in self._under_way:
                attempt.outdated = attempt.outdated or attempt.device in devices


class _Attempt:
    """A device is checked; `outdated` when it has been changed meanwhile."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.outdated = False


def _claimed_by(credentials: Credentials) -> str | None:
    """Who a client says that it is. A certificate, where it has shown one, says it for it."""
    return credentials.user_name if credentials.certificate is None else credentials.certificate.common_name


def _name(user_name: str | None) -> Name | None:
    """A device's name, if it is one."""
    try:
        return None if user_name is None else Name.parse(user_name)
    except DeviceError:
        return None
