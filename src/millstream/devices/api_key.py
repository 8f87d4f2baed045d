"""API keys: what programs and people show to the HTTP API, each with a role.

A key is `msk_ID_SECRET`. Its secret has 256 random bits, so a plain SHA-256 of it is all that is kept: nobody finds a
secret of that size by trying, however fast the hash, and checking one costs microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Annotated, NotRequired, TypedDict

import msgspec

from millstream.clock import SECOND, Micros, to_micros, to_text
from millstream.devices.name import Name
from millstream.errors import DeviceError
from millstream.rights import Role

PREFIX = "msk_"
_MOST_NOTE = 256
LONGEST_GRACE = 7 * 24 * 3_600  # seconds that a rotated key's former secret goes on


class ApiKeyShown(TypedDict):
    """An API key, without its secret."""

    id: str
    role: Role
    device: NotRequired[str]
    note: str | None
    by: str | None
    created: str
    expires: str | None
    former_until: str | None


class NewApiKeyShown(ApiKeyShown):
    """An API key with its secret, which is shown this once."""

    key: str


class ApiKeyGiven(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A key as somebody wants it. `device`: of which device (or `DEVICE/MODULE`), for that role and no other."""

    role: Role
    device: str | None = None
    note: Annotated[str, msgspec.Meta(max_length=_MOST_NOTE)] | None = None
    expires: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def check(self) -> ApiKeyGiven:
        """Itself; `DeviceError` if it cannot be."""
        if (self.role is Role.DEVICE) != (self.device is not None):
            raise DeviceError("say which device a key with the role 'device' is for, and of no other role")
        if self.device is not None:
            Name.parse(self.device)
        if self.note is not None and "\0" in self.note:
            raise DeviceError("a note has no null characters")
        return self


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """How a key gets another secret: the former one is good for some seconds more."""

    keep_seconds: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_GRACE)] = 0


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One that there is, with the digests of its secret and, for a while after a rotation, of the former one."""

    id: str
    role: Role
    device: str | None = None
    note: str | None = None
    digest: bytes
    former: bytes | None = None
    former_until: Micros | None = None
    expires: Micros | None = None
    by: str | None = None
    created: Micros

    def __repr__(self) -> str:
        return f"ApiKey({self.id!r}, {self.role.value!r})"

    def fits(self, secret: str, now: Micros) -> bool:
        """Whether it is this key's secret, and good now. Takes the same time wherever they differ."""
        digest = digest_of(secret)
        former_is_good = self.former is not None and self.former_until is not None and now < self.former_until
        is_former = hmac.compare_digest(digest, self.former or b"") and former_is_good
        is_good = hmac.compare_digest(digest, self.digest) or is_former
        return is_good and (self.expires is None or now < self.expires)

    def shown(self) -> ApiKeyShown:
        """For people and programs, as JSON."""
        shown: ApiKeyShown = {
            "id": self.id,
            "role": self.role,
            "note": self.note,
            "by": self.by,
            "created": to_text(self.created),
            "expires": None if self.expires is None else to_text(self.expires),
            "former_until": None if self.former_until is None else to_text(self.former_until),
        }
        if self.device is not None:
            shown["device"] = self.device
        return shown


class NewApiKey(msgspec.Struct, frozen=True):
    """A key with its text, which is known at this moment only."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"NewApiKey({self.key!r})"

    def shown(self) -> NewApiKeyShown:
        """For who has asked for it."""
        return {**self.key.shown(), "key": self.text}


def new_key(given: ApiKeyGiven, now: Micros, by: str | None) -> NewApiKey:
    """A key with a secret that was never there. `DeviceError`: it is impossible."""
    given.check()
    key_id, secret = secrets.token_hex(6), new_secret()
    expires = None if given.expires is None else to_micros(given.expires)
    if expires is not None and expires <= now:
        raise DeviceError(f"a key that has expired at {to_text(expires)} would be of no use")
    key = ApiKey(
        id=key_id,
        role=given.role,
        device=given.device,
        note=given.note,
        digest=digest_of(secret),
        expires=expires,
        by=by,
        created=now,
    )
    return NewApiKey(key, text_of(key_id, secret))


def rotated(key: ApiKey, keep_seconds: int, now: Micros) -> NewApiKey:
    """The same key with another secret."""
    secret = new_secret()
    former = (key.digest, now + keep_seconds * SECOND) if keep_seconds else (None, None)
    changed = msgspec.structs.replace(key, digest=digest_of(secret), former=former[0], former_until=former[1])
    return NewApiKey(changed, text_of(key.id, secret))


def parse_key(text: str) -> tuple[str, str] | None:
    """The id and the secret in a key's text; None if it is none."""
    key_id, _, secret = text.removeprefix(PREFIX).partition("_")
    return (key_id, secret) if text.startswith(PREFIX) and key_id and secret and text.isascii() else None


def text_of(key_id: str, secret: str) -> str:
    """The opposite."""
    return f"{PREFIX}{key_id}_{secret}"


def new_secret() -> str:
    """Random, and fit for a header."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()
