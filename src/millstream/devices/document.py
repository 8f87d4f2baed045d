"""Documents: JSON objects that a device has, its tags and both sides of its twin, and how a merge patch changes them.

Rules and limits are those of Azure IoT Hub's twins.
"""

from __future__ import annotations

from typing import Any

import msgspec

from millstream.errors import DeviceError

MAX_TAGS_BYTES = 8 << 10
MAX_TWIN_BYTES = 32 << 10  # each of desired and reported
MAX_DEPTH = 10
_FORBIDDEN = frozenset('.$ "\\')  # the last two, because SQLite's paths have no way to write them
_MOST = 1 << 53  # integers that every JSON reader tells apart

Document = dict[str, Any]
Tags = Document


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


def difference(before: Document, after: Document) -> Document:
    """The smallest merge patch that leads from one document to another (that has no null members)."""
    patch: Document = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        there = before.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            if inner := difference(there, value):
                patch[name] = inner
        elif not same(there, value):
            patch[name] = value
    return patch


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, and not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def check_document(document: Document, place: str, most_bytes: int) -> Document:
    """`document`, if a device may have it as its `place`; else a `DeviceError` that says where it is wrong."""
    _check(document, place, 1)
    if (size := len(msgspec.json.encode(document))) > most_bytes:
        raise DeviceError(f"{place} of {size} bytes; there may be {most_bytes}")
    return document


def check_tags(tags: Tags) -> Tags:
    """`check_document` for tags."""
    return check_document(tags, "tags", MAX_TAGS_BYTES)


def _check(value: Any, place: str, depth: int) -> None:
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        raise DeviceError(f"{place} is deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for name, inner in value.items():
            check_name(name, place)
            _check(inner, f"{place}.{name}", depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, f"{place}[{number}]", depth + 1)
    elif isinstance(value, int | float) and not -_MOST < value < _MOST:
        raise DeviceError(f"{place} is beyond the integers that JSON keeps exactly (2^53)")
    elif isinstance(value, str) and "\0" in value:
        raise DeviceError(f"{place} has a null character")


def check_name(name: str, place: str) -> None:
    """Raise `DeviceError` unless a member of `place` may have that name."""
    if not name or not _FORBIDDEN.isdisjoint(name) or not name.isprintable():
        raise DeviceError(
            f'{place} has a member {name!r}; names have no space, control character, ".", "$", quote or backslash'
        )
