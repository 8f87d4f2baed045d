"""What a device proves who it is with. It may have any of these, and one of each kind."""

from __future__ import annotations

import base64
import binascii
import secrets
import string
from typing import Any, NotRequired, TypedDict, cast

import msgspec
from msgspec import UNSET, UnsetType

from millstream.errors import DeviceError
from millstream.password import PasswordHash, hash_password

_KEY_BYTES = 32
_LEAST_KEY, _MOST_KEY = 16, 64  # bytes, as in Azure IoT Hub
_HEX = frozenset(string.hexdigits)
_THUMBPRINTS = (40, 64)  # hexadecimal digits of SHA-1 and of SHA-256


class SymmetricKeys(msgspec.Struct, frozen=True):
    """Two keys in Base64, of which either will do: so one can be changed while the device still uses the other."""

    primary: str
    secondary: str

    def __repr__(self) -> str:
        return "SymmetricKeys(…)"  # keys have no business in a log

    @staticmethod
    def generate() -> SymmetricKeys:
        """Two new ones."""
        return SymmetricKeys(new_key(), new_key())

    def rotated(self) -> SymmetricKeys:
        """A new primary key; the one before becomes the secondary, and the secondary is not good any more."""
        return SymmetricKeys(new_key(), self.primary)

    def swapped(self) -> SymmetricKeys:
        """The same keys in each other's place."""
        return SymmetricKeys(self.secondary, self.primary)


class Thumbprints(msgspec.Struct, frozen=True):
    """Of certificates that are let in by themselves: SHA-256 or SHA-1 of their DER form, in lower-case hexadecimals."""

    primary: str
    secondary: str | None = None


class CredentialsShown(TypedDict):
    """Which credentials a device has; keys and password are themselves only where secrets are asked for."""

    keys: NotRequired[bool | SymmetricKeys]
    password: NotRequired[bool]
    password_hash: NotRequired[str]
    thumbprints: NotRequired[Thumbprints | None]
    authority: NotRequired[bool]


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Those of a device."""

    keys: SymmetricKeys | None = None
    password: str | None = None
    """The password's hash."""
    thumbprints: Thumbprints | None = None
    authority: bool = False
    """Whether a certificate that a trusted authority has signed for the device's id lets it in."""

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self.kinds())})"

    def given(self) -> CredentialsShown:
        """As `CredentialsGiven` takes them, secrets and all."""
        its: dict[str, Any] = {
            "keys": self.keys,
            "password_hash": self.password,
            "thumbprints": self.thumbprints,
            "authority": self.authority,
        }
        return cast(CredentialsShown, {name: value for name, value in its.items() if value})

    def kinds(self) -> list[str]:
        """Which there are."""
        return [name for name in self.__struct_fields__ if getattr(self, name)]


NO_CREDENTIALS = Credentials()


class KeysGiven(msgspec.Struct, forbid_unknown_fields=True):
    """Keys as somebody sets them; what he leaves out stays, and is generated where there is none."""

    primary: str | None = None
    secondary: str | None = None

    def over(self, before: SymmetricKeys | None) -> SymmetricKeys:
        """These over those that there were. `DeviceError` if they are none."""
        before = before or SymmetricKeys.generate()
        primary, secondary = self.primary or before.primary, self.secondary or before.secondary
        return SymmetricKeys(check_key(primary), check_key(secondary))


class ThumbprintsGiven(msgspec.Struct, forbid_unknown_fields=True):
    """Thumbprints as somebody writes them: upper or lower case, with colons or without."""

    primary: str
    secondary: str | None = None

    def thumbprints(self) -> Thumbprints:
        """`DeviceError` if they are none."""
        return Thumbprints(_thumbprint(self.primary), None if self.secondary is None else _thumbprint(self.secondary))


class CredentialsGiven(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Credentials as somebody sets them. What is left out stays as it is; null takes it away."""

    keys: KeysGiven | UnsetType | None = UNSET
    password: str | UnsetType | None = UNSET
    password_hash: str | UnsetType = UNSET
    """The output of `millstream password`, in place of a password."""
    thumbprints: ThumbprintsGiven | UnsetType | None = UNSET
    authority: bool | UnsetType = UNSET

    def over(self, before: Credentials) -> Credentials:
        """These over those that there were; a password must be `hashed` before. `DeviceError`: it is impossible."""
        changed: dict[str, Any] = {}
        if self.keys is not UNSET:
            changed["keys"] = None if self.keys is None else self.keys.over(before.keys)
        if self.password is None:
            changed["password"] = None
        elif self.password_hash is not UNSET:
            changed["password"] = _check_hash(self.password_hash)
        if self.thumbprints is not UNSET:
            changed["thumbprints"] = None if self.thumbprints is None else self.thumbprints.thumbprints()
        if self.authority is not UNSET:
            changed["authority"] = self.authority
        return msgspec.structs.replace(before, **changed)

    def hashed(self) -> CredentialsGiven:
        """The same with the hash of a password in its place, which takes its time. `DeviceError`: both were given."""
        if self.password is UNSET or self.password is None:
            return self
        if self.password_hash is not UNSET:
            raise DeviceError("give password or password_hash, not both")
        if not self.password:
            raise DeviceError("an empty password; leave it out, or take it away with null")
        return msgspec.structs.replace(self, password=UNSET, password_hash=hash_password(self.password))


def new_key() -> str:
    """A random key in Base64."""
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def check_key(text: str) -> str:
    """`text`, if it is a key; else a `DeviceError`, that does not show it."""
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise DeviceError("a symmetric key is not Base64") from None
    if not _LEAST_KEY <= size <= _MOST_KEY:
        raise DeviceError(f"a symmetric key has {_LEAST_KEY} to {_MOST_KEY} bytes; this one has {size}")
    return text


def _check_hash(text: str) -> str:
    try:
        PasswordHash.parse(text)
    except ValueError:
        raise DeviceError("password_hash is no password hash; make one with: millstream password") from None
    return text


def _thumbprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    if len(digits) not in _THUMBPRINTS or not _HEX.issuperset(digits):
        raise DeviceError(f"{text!r} is no thumbprint: SHA-256 (64 hexadecimal digits) or SHA-1 (40)")
    return digits
