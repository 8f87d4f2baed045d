"""What devices and their modules are called.

Azure IoT Hub's rule without `+` and `#`, so that an identifier can stand in a topic: up to 128 characters, letters and
digits of ASCII and some others. Case counts.
"""

from __future__ import annotations

import string
from typing import NamedTuple

from millstream.errors import DeviceError

MAX_CHARACTERS = 128
_ALLOWED = frozenset(string.ascii_letters + string.digits + "-._:=@!(),'*?$%")
_PATHS = (".", "..")  # which clients of HTTP take for steps in a path


class Name(NamedTuple):
    """Of a device, or of a module of a device. As text, it is what they show as their user name."""

    device: str
    module: str = ""

    def __str__(self) -> str:
        return f"{self.device}/{self.module}" if self.module else self.device

    @staticmethod
    def parse(text: str) -> Name:
        """`DEVICE` or `DEVICE/MODULE`. `DeviceError` if it is neither."""
        device, slash, module = text.partition("/")
        check_id(device, "device")
        if slash:
            check_id(module, "module")
        return Name(device, module)


def check_id(text: str, what: str = "device") -> None:
    """Raise `DeviceError` unless `text` can be an identifier."""
    if not text or len(text) > MAX_CHARACTERS:
        raise DeviceError(f"a {what}'s id has 1 to {MAX_CHARACTERS} characters; this one has {len(text)}")
    if wrong := sorted(set(text) - _ALLOWED):
        raise DeviceError(
            f"{what} id {text!r} has {wrong[0]!r}; there may be letters and digits of ASCII and -._:=@!(),'*?$%"
        )
    if text in _PATHS:
        raise DeviceError(f"{what} id {text!r} is a step in a path; choose another")
