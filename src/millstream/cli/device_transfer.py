"""`millstream devices import` and `export`: many devices, between a file and the registry."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from millstream.cli import output
from millstream.cli.device_files import read_csv, write_csv
from millstream.cli.options import Place
from millstream.cli.registry import PAGE, Device, connected, count, every, tell_error_of_line
from millstream.errors import SettingsError

Format = Literal["ndjson", "csv"]

_BATCH_BYTES = 256 * 1024  # of lines in a request: far below what a server takes
_NDJSON = {"Content-Type": "application/x-ndjson"}
_MEMBERS = ("id", "module", "status", "status_reason", "tags", "credentials")  # of a device, that an import takes


def import_devices(source: str, form: Format | None, place: Place) -> int:
    """Put every device of a file (`-`: standard input). 1 if lines were wrong, which are told and left out."""
    outcomes = {"created": 0, "updated": 0, "unchanged": 0}
    wrong = 0
    with _opened(source) as file, connected(place) as api, output.progress("imported", "devices") as progress:
        lines, total = _lines(file, _form(source, form)), _rows(source)
        done = 0
        for batch in _batches(lines):
            told = api.ask("POST", "/devices", b"\n".join(line for _, line in batch), _NDJSON)
            for error in told.pop("errors"):
                tell_error_of_line(batch[error["line"] - 1][0], error["message"])
                wrong += 1
            for name, number in told.items():
                outcomes[name] += number
            done += len(batch)
            progress(done, total)
    output.tell(", ".join(f"{name} {number}" for name, number in outcomes.items()) + f", wrong {wrong}")
    return 1 if wrong else 0


def export_devices(target: str, form: Format | None, query: str | None, secrets: bool, place: Place) -> None:
    """Write every device that a query selects to a file (`-`: standard output), modules too, as an import takes it."""
    form = _form(target, form)
    with connected(place) as api, output.progress("exported", "devices") as progress:
        found = _counted(every(api, query, modules=True, secrets=secrets), secrets, progress)
        with _writable(target, secrets) as file:
            if form == "csv":
                write_csv(found, file)
            else:
                for device in found:
                    file.write(json.dumps(device, ensure_ascii=False) + "\n")


def _counted(pages: Iterable[list[Device]], secrets: bool, progress: Any) -> Iterator[Device]:
    done = 0
    for page in pages:
        for device in page:
            members = _MEMBERS if secrets else _MEMBERS[:-1]
            yield {name: device[name] for name in members if device.get(name) not in (None, {})}
        done += len(page)
        progress(done, None)
    output.tell(f"{count(done)} exported" + ("" if secrets else ", without their credentials (--secrets)"))


def _form(name: str, form: Format | None) -> Format:
    """As it is said, else as the name ends."""
    return form or ("csv" if name.endswith(".csv") else "ndjson")


def _lines(file: TextIO, form: Format) -> Iterator[tuple[int, bytes]]:
    """Devices, each a line of JSON, with the number of its line in the file."""
    if form == "csv":
        for number, device in enumerate(read_csv(file), 2):
            yield number, json.dumps(device, ensure_ascii=False).encode()
        return
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, line.strip().encode()


def _batches(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """As many as go into a request."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    for each in lines:
        batch.append(each)
        size += len(each[1])
        if len(batch) == PAGE or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _rows(source: str) -> int | None:
    """How many lines a file has, for the progress."""
    if source == "-":
        return None
    with Path(source).open("rb") as file:
        return sum(1 for _ in file)


@contextmanager
def _opened(source: str) -> Iterator[TextIO]:
    if source == "-":
        yield sys.stdin
        return
    try:
        file = Path(source).open(encoding="utf-8-sig", newline="")  # noqa: SIM115  # spreadsheets write a mark
    except OSError as error:
        raise SettingsError(f"{source}: {error.strerror}") from None
    with file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise SettingsError(f"{source} is no UTF-8: {error.reason} at byte {error.start}") from None


@contextmanager
def _writable(target: str, secrets: bool) -> Iterator[TextIO]:
    """Secrets are for this user only."""
    if target == "-":
        yield sys.stdout
        return
    try:
        path = Path(target)
        path.touch(0o600 if secrets else 0o666)
        file = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise SettingsError(f"{target}: {error.strerror}") from None
    with file:
        yield file
