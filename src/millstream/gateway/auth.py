"""Who may come in: users with passwords, hashed with scrypt (RFC 7914).

A check costs memory and tens of milliseconds by intent, so checks run in threads of their own, a few at a time, with a
bounded queue: a thousand wrong passwords delay each other and nothing else. A password that was right is remembered
for a while (as a keyed digest, in memory only), so that a site whose devices share one comes in at once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from millstream.clock import Clock
from millstream.errors import MillstreamError, SettingsError
from millstream.rights import EVERYTHING, Rights

_N, _R, _P = 1 << 14, 8, 1  # 16 MiB and about 40 ms; OWASP's table has (2^14, 8, 5) and (2^17, 8, 1) at its ends
_MAX_MEMORY = 256 << 20  # of one check, whatever a hash asks for
_SALT, _KEY = 16, 32  # bytes

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


def hash_password(password: str) -> str:
    """A password as the settings keep it: `scrypt$N$r$p$SALT$KEY`, salt and key in Base64."""
    salt = secrets.token_bytes(_SALT)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=_KEY, maxmem=_MAX_MEMORY)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def verify_password(password: bytes, hashed: str) -> bool:
    """Whether it is the password that was hashed. Takes the same time wherever they differ."""
    return _Hash.parse(hashed, "user").fits(password)


@dataclass(frozen=True, slots=True)
class _Hash:
    n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @staticmethod
    def parse(text: str, user: str) -> _Hash:
        try:
            kind, n, r, p, salt, key = text.split("$")
            decode = base64.b64decode
            found = _Hash(int(n), int(r), int(p), decode(salt, validate=True), decode(key, validate=True))
            if kind != "scrypt" or not found.is_possible:
                raise ValueError
        except ValueError:
            raise SettingsError(
                f"setting 'users': the value of {user!r} is no password hash; make one with: millstream password"
            ) from None
        return found

    @property
    def is_possible(self) -> bool:
        """Whether scrypt takes these parameters (RFC 7914, 2) and this machine the memory that they need."""
        power_of_two = self.n > 1 and self.n & (self.n - 1) == 0
        return (
            power_of_two and self.r > 0 and 0 < self.p <= 64 and 128 * self.n * self.r < _MAX_MEMORY and bool(self.key)
        )

    def fits(self, password: bytes) -> bool:
        """Whether it is the password that was hashed."""
        key = hashlib.scrypt(
            password, salt=self.salt, n=self.n, r=self.r, p=self.p, dklen=len(self.key), maxmem=_MAX_MEMORY
        )
        return hmac.compare_digest(key, self.key)


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
        self._hashes = {name: _Hash.parse(text, name) for name, text in users.items()}
        self._anonymous = allow_anonymous
        self._clock = clock
        self._rights = rights
        self._secret = os.urandom(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "password")
        # An unknown user costs the same time as a known one, so that names cannot be found out.
        self._nobody = next(iter(self._hashes.values()), _Hash(_N, _R, _P, os.urandom(_SALT), os.urandom(_KEY)))

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
