"""How a device proves who it is, and whether what it came in with is still good."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

import msgspec

from millstream.clock import Micros
from millstream.devices.credentials import Credentials
from millstream.devices.device import Device, Status
from millstream.devices.name import Name
from millstream.devices.token import Token
from millstream.errors import DeviceError, TokenError

PASSWORD, KEY, THUMBPRINT, AUTHORITY = "password", "key", "thumbprint", "authority"


class Admitted(msgspec.Struct, frozen=True):
    """A device that has come in, and what with: a `kind` of credential, and a digest that tells it from others."""

    name: Name
    generation: str
    kind: str
    digest: str


def admit(device: Device, kind: str, value: str) -> Admitted:
    """A device that has shown the credential `value`."""
    return Admitted(device.name, device.generation, kind, _digest(value))


def admit_by_token(device: Device, text: str, now: Micros) -> Admitted:
    """A device that shows a token. `TokenError`: it does not let this one in."""
    keys = device.credentials.keys
    if keys is None:
        raise TokenError("the device has no symmetric keys")
    return admit(device, KEY, Token.parse(text).check((keys.primary, keys.secondary), [resource_of(device.name)], now))


def admit_by_certificate(device: Device, thumbprints: Sequence[str]) -> Admitted | None:
    """A device that shows a certificate of its name, which was checked, with its digests (lower-case hexadecimal).
    None: it is known neither by that certificate nor by its authority."""
    its = device.credentials.thumbprints
    known = () if its is None else (its.primary, its.secondary)
    for each in thumbprints:
        if each in known:
            return admit(device, THUMBPRINT, each)
    return admit(device, AUTHORITY, "") if device.credentials.authority else None


def resource_of(name: Name) -> str:
    """What a device's token is for."""
    return f"devices/{name.device}" + (f"/modules/{name.module}" if name.module else "")


def name_of(resource: str) -> Name:
    """The device that a token's resource names. `DeviceError` if it is none."""
    parts = unquote(resource).split("/")
    if parts[0] != "devices" or len(parts) not in (2, 4) or parts[2:3] not in ([], ["modules"]):
        raise DeviceError(f"{resource!r} is no resource of a device: devices/DEVICE or devices/DEVICE/modules/MODULE")
    return Name.parse("/".join((parts[1], *parts[3:])))


def may_connect(device: Device, parent: Device | None) -> bool:
    """Whether a device, or a module of `parent`, is enabled."""
    return all(each.status is Status.ENABLED for each in (device, parent) if each is not None)


def is_good(admitted: Admitted, device: Device | None, parent: Device | None) -> bool:
    """Whether a device that has come in may stay, as it and (of a module) its device are now."""
    if device is None or device.generation != admitted.generation or not may_connect(device, parent):
        return False
    return (admitted.kind, admitted.digest) in set(_proofs(device.credentials))


def _proofs(its: Credentials) -> Iterator[tuple[str, str]]:
    """Everything that lets in who has these credentials."""
    if its.password is not None:
        yield PASSWORD, _digest(its.password)
    if its.keys is not None:
        yield KEY, _digest(its.keys.primary)
        yield KEY, _digest(its.keys.secondary)
    if its.thumbprints is not None:
        yield THUMBPRINT, _digest(its.thumbprints.primary)
        yield THUMBPRINT, _digest(its.thumbprints.secondary or its.thumbprints.primary)
    if its.authority:
        yield AUTHORITY, _digest("")


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
