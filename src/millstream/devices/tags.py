"""Tags: what the operator knows of a device, as a JSON object. Rules and limits are those of Azure IoT Hub's twins."""

from __future__ import annotations

from typing import Any

import msgspec

from millstream.errors import DeviceError

MAX_BYTES = 8 << 10
MAX_DEPTH = 10
_FORBIDDEN = frozenset('.$ "\\')  # the last two, because SQLite's paths have no way to write them
_MOST = 1 << 53  # integers that every JSON reader tells apart

Tags = dict[str, Any]


def merge(before: Any, patch: Any) -> Any:
    """A JSON value changed by a merge patch (RFC 7396): null takes a member away, an object goes inside."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def check_tags(tags: Tags) -> Tags:
    """`tags`, if a device may have them; else a `DeviceError` that says where they are wrong."""
    _check(tags, "tags", 1)
    if (size := len(msgspec.json.encode(tags))) > MAX_BYTES:
        raise DeviceError(f"tags of {size} bytes; there may be {MAX_BYTES}")
    return tags


def _check(value: Any, place: str, depth: int) -> None:
    if isinstance(value, dict):
        if depth > MAX_DEPTH:
            raise DeviceError(f"{place} is deeper than {MAX_DEPTH} levels")
        for name, inner in value.items():
            check_name(name, place)
            _check(inner, f"{place}.{name}", depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, f"{place}[{number}]", depth + 1)
    elif isinstance(value, int) and not -_MOST < value < _MOST:
        raise DeviceError(f"{place} is beyond the integers that JSON keeps exactly (2^53)")
    elif isinstance(value, str) and "\0" in value:
        raise DeviceError(f"{place} has a null character")


def check_name(name: str, place: str) -> None:
    """Raise `DeviceError` unless a member of `place` may have that name."""
    if not name or not _FORBIDDEN.isdisjoint(name) or not name.isprintable():
        raise DeviceError(
            f'{place} has a member {name!r}; names have no space, control character, ".", "$", quote or backslash'
        )
