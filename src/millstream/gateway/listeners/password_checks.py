"""Checks of passwords, which cost memory and tens of milliseconds by intent.

They run in threads of their own, a few at a time, with a bounded queue: a thousand wrong passwords delay each other and
nothing else. Whoever has shown too many wrong ones is refused without a check (see `failures`). A password that was
right is remembered for a while (as a keyed digest, in memory only), so that a site whose devices share one comes in at
once; since the digest is of the hash too, a changed password is not.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from millstream.clock import Clock
from millstream.errors import MillstreamError
from millstream.gateway.listeners.failures import Failures
from millstream.password import PasswordHash

_THREADS = 2  # scrypt releases the interpreter's lock; more would take cores that have better to do
_WAITING = 1_000  # checks; at 20 a second and thread that is 25 s, which no client waits for
_REMEMBERED = 10_000  # right passwords
_REMEMBERED_SECONDS = 600.0


class BusyError(MillstreamError):
    """Too many wait already; come back later."""


class TooManyFailuresError(BusyError):
    """Too many wrong passwords have come from there; come back later."""


class PasswordChecks:
    """Checks passwords until it is closed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = os.urandom(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._failures = Failures(clock)
        self._threads = ThreadPoolExecutor(_THREADS, "password")

    def remembers(self, name: str, hashed: PasswordHash, password: bytes) -> bool:
        """Whether this was the right password of `name` a short while ago."""
        until = self._remembered.get(self._digest(name, hashed, password))
        return until is not None and self._clock.monotonic() < until

    async def fits(self, name: str, hashed: PasswordHash, password: bytes, address: str = "") -> bool:
        """Whether it is the password. Those who ask for the same at a time share one check. `BusyError`; as
        `TooManyFailuresError`, when wrong ones have come from that address too often."""
        if self.remembers(name, hashed, password):
            return True
        digest = self._digest(name, hashed, password)
        check = self._running.get(digest)
        if check is None:
            if len(self._running) >= _WAITING:
                raise BusyError("too many clients are logging in; try again later")
            if not self._failures.may_try(address, name):
                raise TooManyFailuresError(f"too many wrong passwords from {address or 'there'}; try again later")
            check = self._running[digest] = asyncio.create_task(self._check(hashed, password, digest))
            check.add_done_callback(lambda done: self._note(done, address, name))
        return await asyncio.shield(check)

    def _note(self, check: asyncio.Task[bool], address: str, name: str) -> None:
        if check.cancelled() or check.exception() is not None:
            return
        if check.result():
            self._failures.right(address, name)
        else:
            self._failures.wrong(address)

    def close(self) -> None:
        """End what runs."""
        for check in self._running.values():
            check.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _check(self, hashed: PasswordHash, password: bytes, digest: bytes) -> bool:
        try:
            fits = await asyncio.get_running_loop().run_in_executor(self._threads, hashed.fits, password)
        finally:
            del self._running[digest]
        if fits:
            self._remembered[digest] = self._clock.monotonic() + _REMEMBERED_SECONDS
            self._remembered.move_to_end(digest)
            if len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return fits

    def _digest(self, name: str, hashed: PasswordHash, password: bytes) -> bytes:
        parts = (name.encode(), hashed.salt, hashed.key, password)
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._secret, message, "sha256")
