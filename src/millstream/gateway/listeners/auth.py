"""Who may come in: users with passwords, as the settings name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from millstream.clock import Clock
from millstream.errors import MillstreamError, SettingsError
from millstream.gateway.listeners.password_checks import BusyError, PasswordChecks, TooManyFailuresError
from millstream.password import PasswordHash
from millstream.rights import EVERYTHING, Rights

if TYPE_CHECKING:
    from millstream.devices import Admitted, Applicant

__all__ = [
    "Authenticator",
    "BusyError",
    "Credentials",
    "Identity",
    "NotAuthenticatedError",
    "ShownCertificate",
    "TooManyFailuresError",
    "UserAuthenticator",
]


class NotAuthenticatedError(MillstreamError):
    """User name and password do not belong together, or are missing."""


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """A certificate that a client has shown to a listener which checks them: whose it is by its common name, its
    digests by SHA-256 and SHA-1, as lower-case hexadecimal digits; and the `chain` (in DER) from it, over those that
    vouch for it, to one that the listener trusts."""

    common_name: str
    thumbprints: tuple[str, ...] = ()
    chain: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows."""

    user_name: str | None
    password: bytes | None
    client_id: str = ""
    certificate: ShownCertificate | None = None
    address: str = ""
    """Where it comes from."""
    bearer: str | None = field(default=None, repr=False)
    """An API key, which is shown in place of all else."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, and what it may do; `name` is None for nobody in particular. A device of the registry has been
    `admitted`."""

    name: str | None
    rights: Rights = field(compare=False)
    admitted: Admitted | None = field(default=None, compare=False)
    applicant: Applicant | None = field(default=None, compare=False)
    """One that is no device yet, and may register."""


class Authenticator(Protocol):
    """Decides who comes in, and with which rights."""

    def recall(self, credentials: Credentials) -> Identity | None:
        """The identity if it is known at once, without a check; else None, and `authenticate` decides."""
        ...

    async def authenticate(self, credentials: Credentials) -> Identity:
        """The identity. `NotAuthenticatedError`: not with these. `BusyError`: ask again later."""
        ...

    def close(self) -> None:
        """End what runs."""
        ...


class UserAuthenticator:
    """Users with their passwords' hashes. `allow_anonymous` lets in who shows no user name, and everybody where there
    are no users. Who has shown a certificate is let in by its common name; `others` says that somebody else can come
    in. `rights` gives what a user (None: nobody in particular) with a client identifier may do.

    `SettingsError`: nobody could come in, or a hash is none."""

    def __init__(
        self,
        users: Mapping[str, str],
        allow_anonymous: bool,
        clock: Clock,
        rights: Callable[[str | None, str], Rights] = lambda user, client_id: EVERYTHING,
        *,
        others: bool = False,
    ) -> None:
        if not users and not allow_anonymous and not others:
            raise SettingsError(
                "nobody may connect: name users in the settings (millstream password makes the hash), "
                "or let anybody in with --allow-anonymous (setting 'allow_anonymous')"
            )
        self.checks = PasswordChecks(clock)
        self._hashes = {name: _parse(text, name) for name, text in users.items()}
        self._anonymous = allow_anonymous
        self._rights = rights
        # An unknown user costs the same time as a known one, so that names cannot be found out.
        self._nobody = PasswordHash.impossible(next(iter(self._hashes.values()), None))

    @property
    def lets_anybody_in(self) -> bool:
        """Whether also those come in whose user name is nobody's."""
        return self._anonymous and not self._hashes

    def knows(self, name: str) -> bool:
        """Whether there is such a user."""
        return name in self._hashes

    def recall(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        if credentials.certificate is not None:
            return self._identity(credentials.certificate.common_name, credentials)
        if credentials.bearer is not None:
            return None
        name = credentials.user_name
        if self._anonymous and (name is None or not self._hashes):
            return self._identity(None, credentials)
        known = self._hashes.get(name or "")
        if name is None or known is None or not self.checks.remembers(name, known, credentials.password or b""):
            return None
        return self._identity(name, credentials)

    async def authenticate(self, credentials: Credentials) -> Identity:
        """See `Authenticator`."""
        recalled = self.recall(credentials)
        if recalled is not None:
            return recalled
        name = credentials.user_name
        if credentials.bearer is not None:
            raise NotAuthenticatedError("this server takes no API keys; show a user name and a password")
        if name is None:
            raise NotAuthenticatedError("a user name and a password are needed")
        known = self._hashes.get(name)
        shown = credentials.password or b""
        fits = await self.checks.fits(name, known or self._nobody, shown, credentials.address)
        if known is None or not fits:
            raise NotAuthenticatedError("user name or password is wrong")
        return self._identity(name, credentials)

    def close(self) -> None:
        """See `Authenticator`."""
        self.checks.close()

    def _identity(self, name: str | None, credentials: Credentials) -> Identity:
        return Identity(name, self._rights(name, credentials.client_id))


def _parse(text: str, user: str) -> PasswordHash:
    try:
        return PasswordHash.parse(text)
    except ValueError:
        raise SettingsError(
            f"setting 'users': the value of {user!r} is no password hash; make one with: millstream password"
        ) from None
