"""Devices in files: a JSON object a line, or a table as CSV.

In CSV, a member of the tags has a column `tags.NAME` (`tags.NAME.NAME` inside of an object). A cell is JSON if it reads
as such, else a text; an empty one says nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from millstream.errors import DeviceError, SettingsError

_PLAIN = ("id", "module", "status", "status_reason")
_CREDENTIALS = {
    "password": ("password",),
    "password_hash": ("password_hash",),
    "primary_key": ("keys", "primary"),
    "secondary_key": ("keys", "secondary"),
    "thumbprint": ("thumbprints", "primary"),
    "second_thumbprint": ("thumbprints", "secondary"),
    "authority": ("authority",),
}
_TAG = "tags."

Device = dict[str, Any]
"""As `POST /devices` takes it."""


def read_csv(lines: Iterable[str]) -> Iterator[Device]:
    """Devices of a table. `SettingsError` for a column that there is not, `DeviceError` for a row that is none."""
    rows = csv.DictReader(lines)
    for column in rows.fieldnames or ():
        if column not in _PLAIN and column not in _CREDENTIALS and not column.startswith(_TAG):
            there = ", ".join((*_PLAIN, *_CREDENTIALS))
            raise SettingsError(f"there is no column {column!r}; there are {there}, and tags.NAME")
    for row in rows:
        if None in row or None in row.values():
            raise DeviceError(f"line {rows.line_num} has more or fewer cells than the first one")
        yield _device(row)


def write_csv(devices: Iterable[Device], file: TextIO) -> None:
    """A table of devices. Its columns are those that any of them needs, so all are held until the last has come."""
    rows = [_row(device) for device in devices]
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = [column for column in (*_PLAIN, *_CREDENTIALS) if column in columns]
    ordered += sorted(column for column in columns if column.startswith(_TAG))
    writer = csv.DictWriter(file, ordered, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _device(row: Mapping[str, str]) -> Device:
    device: Device = {}
    for column, cell in row.items():
        if cell == "":
            continue
        if column in _PLAIN:
            device[column] = cell
        elif column in _CREDENTIALS:
            _put(device, ("credentials", *_CREDENTIALS[column]), cell if column != "authority" else _value(cell))
        else:
            _put(device, ("tags", *column.removeprefix(_TAG).split(".")), _value(cell))
    return device


def _row(device: Mapping[str, Any]) -> dict[str, str]:
    row = {name: str(device[name]) for name in _PLAIN if device.get(name) is not None}
    credentials = device.get("credentials", {})
    for column, path in _CREDENTIALS.items():
        value: Any = credentials
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            row[column] = value if isinstance(value, str) else json.dumps(value)
    row.update(_cells(device.get("tags", {}), _TAG.removesuffix(".")))
    return row


def _cells(value: Any, column: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _cells(inner, f"{column}.{name}")
    elif column != "tags":
        yield column, value if _is_plain(value) else json.dumps(value, ensure_ascii=False)


def _is_plain(value: Any) -> bool:
    """Whether it is a text that reads as itself."""
    return isinstance(value, str) and value != "" and value.isprintable() and _value(value) == value


def _value(cell: str) -> Any:
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except ValueError:
        return cell


def _no_constant(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _put(device: Device, path: tuple[str, ...], value: Any) -> None:
    inner: Any = device
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise DeviceError(f"column {'.'.join(path)!r} is inside of another one that is no object")
    inner[path[-1]] = value
