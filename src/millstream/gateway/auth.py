"""Who may come in: users with passwords, hashed with scrypt (RFC 7914).

A check costs memory and tens of milliseconds by intent, so checks run in threads of their own, a few at a time, with a
bounded queue: a thousand wrong passwords delay each other and nothing else. A password that was right is remembered
for a while (as a keyed digest, in memory only), so that a site whose devices share one comes in at once.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from millstream.clock import Clock
from millstream.errors import MillstreamError, SettingsError
from millstream.password import PasswordHash
from millstream.rights import EVERYTHING, Rights

_THREADS = 2  # scrypt releases the interpreter's lock; more would take cores that have better to do
_WAITING = 1_000  # checks; at 20 a second and thread that is 25 s, which no client waits for
_REMEMBERED = 10_000  # right passwords
_REMEMBERED_SECONDS = 600.0


class NotAuthenticatedError(MillstreamError):
    """User name and password do not belong together, or are missing."""


class BusyError(MillstreamError):
    """Too many wait already; come back later."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows."""

    user_name: str | None
    password: bytes | None
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, and what it may do; `name` is None for nobody in particular."""

    name: str | None
    rights: Rights = field(compare=False)


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
    are no users. `rights` gives what a user (None: nobody in particular) with a client identifier may do.

    `SettingsError`: nobody could come in, or a hash is none."""

    def __init__(
        self,
        users: Mapping[str, str],
        allow_anonymous: bool,
        clock: Clock,
        rights: Callable[[str | None, str], Rights] = lambda user, client_id: EVERYTHING,
    ) -> None:
        if not users and not allow_anonymous:
            raise SettingsError(
                "nobody may connect: name users in the settings (millstream password makes the hash), "
                "or let anybody in with --allow-anonymous (setting 'allow_anonymous')"
            )
        self._hashes = {name: _parse(text, name) for name, text in users.items()}
        self._anonymous = allow_anonymous
        self._clock = clock
        self._rights = rights
        self._secret = os.urandom(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "password")
        # An unknown user costs the same time as a known one, so that names cannot be found out.
        self._nobody = next(iter(self._hashes.values()), PasswordHash.impossible())

    def recall(self, credentials: Credentials) -> Identity | None:
        """See `Authenticator`."""
        if self._anonymous and (credentials.user_name is None or not self._hashes):
            return self._identity(None, credentials)
        if credentials.user_name is None:
            return None
        until = self._remembered.get(self._digest(credentials))
        if until is None or self._clock.monotonic() >= until:
            return None
        return self._identity(credentials.user_name, credentials)

    async def authenticate(self, credentials: Credentials) -> Identity:
        """See `Authenticator`."""
        known = self.recall(credentials)
        if known is not None:
            return known
        if credentials.user_name is None:
            raise NotAuthenticatedError("a user name and a password are needed")
        digest = self._digest(credentials)
        check = self._running.get(digest)
        if check is None:
            if len(self._running) >= _WAITING:
                raise BusyError("too many clients are logging in; try again later")
            check = self._running[digest] = asyncio.create_task(self._check(credentials, digest))
        if not await asyncio.shield(check):
            raise NotAuthenticatedError("user name or password is wrong")
        return self._identity(credentials.user_name, credentials)

    def close(self) -> None:
        """See `Authenticator`."""
        for check in self._running.values():
            check.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _identity(self, name: str | None, credentials: Credentials) -> Identity:
        return Identity(name, self._rights(name, credentials.client_id))

    async def _check(self, credentials: Credentials, digest: bytes) -> bool:
        known = self._hashes.get(credentials.user_name or "")
        password = credentials.password or b""
        try:
            fits = await asyncio.get_running_loop().run_in_executor(
                self._threads, (known or self._nobody).fits, password
            )
        finally:
            del self._running[digest]
        if known is None or not fits:
            return False
        self._remembered[digest] = self._clock.monotonic() + _REMEMBERED_SECONDS
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return True

    def _digest(self, credentials: Credentials) -> bytes:
        name = (credentials.user_name or "").encode()
        message = len(name).to_bytes(4, "big") + name + (credentials.password or b"")
        return hmac.digest(self._secret, message, "sha256")


def _parse(text: str, user: str) -> PasswordHash:
    try:
        return PasswordHash.parse(text)
    except ValueError:
        raise SettingsError(
            f"setting 'users': the value of {user!r} is no password hash; make one with: millstream password"
        ) from None
