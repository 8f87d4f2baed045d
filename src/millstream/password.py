"""Passwords as they are kept: hashed with scrypt (RFC 7914).

A check costs memory and tens of milliseconds by intent; run it in a thread, and bound how many run.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace

_N, _R, _P = 1 << 14, 8, 1  # 16 MiB and about 40 ms; OWASP's table has (2^14, 8, 5) and (2^17, 8, 1) at its ends
_MAX_MEMORY = 256 << 20  # of one check, whatever a hash asks for
_SALT, _KEY = 16, 32  # bytes


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """What is kept of a password. Its text is `scrypt$N$r$p$SALT$KEY`, salt and key in Base64."""

    n: int
    r: int
    p: int
    salt: bytes
    key: bytes

    @staticmethod
    def parse(text: str) -> PasswordHash:
        """`ValueError` if it is none, or asks for more than this machine should give."""
        kind, n, r, p, salt, key = text.split("$")
        decode = base64.b64decode
        found = PasswordHash(int(n), int(r), int(p), decode(salt, validate=True), decode(key, validate=True))
        if kind != "scrypt" or not found._is_possible:
            raise ValueError(f"{text!r} is no password hash")
        return found

    @staticmethod
    def impossible(like: PasswordHash | None = None) -> PasswordHash:
        """One that no password fits, and that takes as long to find that out as another one."""
        if like is not None:
            return replace(like, key=secrets.token_bytes(len(like.key)))
        return PasswordHash(_N, _R, _P, secrets.token_bytes(_SALT), secrets.token_bytes(_KEY))

    @property
    def _is_possible(self) -> bool:
        """Whether scrypt takes these parameters (RFC 7914, 2) and this machine the memory that they need."""
        power_of_two = self.n > 1 and self.n & (self.n - 1) == 0
        return (
            power_of_two and self.r > 0 and 0 < self.p <= 64 and 128 * self.n * self.r < _MAX_MEMORY and bool(self.key)
        )

    def fits(self, password: bytes) -> bool:
        """Whether it is the password that was hashed. Takes the same time wherever they differ."""
        key = hashlib.scrypt(
            password, salt=self.salt, n=self.n, r=self.r, p=self.p, dklen=len(self.key), maxmem=_MAX_MEMORY
        )
        return hmac.compare_digest(key, self.key)


def hash_password(password: str) -> str:
    """The text to keep of a password."""
    salt = secrets.token_bytes(_SALT)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=_KEY, maxmem=_MAX_MEMORY)
    return f"scrypt${_N}${_R}${_P}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def verify_password(password: bytes, hashed: str) -> bool:
    """Whether it is the password that was hashed. `ValueError` if `hashed` is no hash."""
    return PasswordHash.parse(hashed).fits(password)
