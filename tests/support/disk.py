"""A disk under SQLite that fails, fills up and loses power as a test says.

Every call of SQLite's is numbered, so that a test can let the one fail that it likes; and what is written, synced and
deleted is written down, so that a test can see afterwards what a power cut at any moment would have left.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

import apsw

SECTOR = 512  # bytes that a disk writes whole or not at all
_SYNCED_WITH_FOLDER = ("-journal", "-wal")  # SQLite syncs the folder too when it first syncs a new file of these

_names = itertools.count()


@dataclass(frozen=True)
class Fault:
    """Call number `at` raises `error`, and with `lasting` all that follow. With `short`, half of a write is done.
    `only` names a method that fails where others work: the next one of them is meant then."""

    at: int
    error: type[apsw.Error] = apsw.IOError
    lasting: bool = False
    short: bool = False
    only: str | None = None


class Change(NamedTuple):
    """What happened to a file. `kind`: found (it was there), write, truncate (to `offset`), sync, delete (and synced)
    or unlink (not synced yet)."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


Write = tuple[int, bytes]
Survivors = Callable[[Change], Iterable[Write]]


class Disk(apsw.VFS):
    """The system's VFS, but with a `fault`, or `room` for so many bytes. `calls` are the calls so far, `changes` what
    they did to files, and `struck` tells whether the fault has come. `syncing` is set when a sync begins, which takes
    until `may_sync` is."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.name = f"disk-{next(_names)}"
        self.fault = fault
        self.struck = False
        self.room: int | None = None
        self.failing_sync = False
        self.syncing = threading.Event()
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.calls: list[str] = []
        self.changes: list[Change] = []
        self._known: set[str] = set()
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        self.call("xOpen")
        if name is None:  # a temporary file
            return super().xOpen(name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if path.name not in self._known and path.exists():
            self.changes.append(Change("found", path.name, 0, path.read_bytes()))
        self._known.add(path.name)
        return _File(self, path.name, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.call("xDelete")
        super().xDelete(filename, syncdir)
        self.changes.append(Change("delete" if syncdir else "unlink", Path(filename).name))

    def xAccess(self, pathname: str, flags: int) -> bool:
        self.call("xAccess")
        return super().xAccess(pathname, flags)

    def call(self, method: str) -> bool:
        """A call begins. Raises the fault, if it strikes; True where half of a write shall be done first."""
        number = len(self.calls)
        self.calls.append(method)
        fault = self.fault
        if (
            fault is None
            or number < fault.at
            or (self.struck and not fault.lasting)
            or fault.only not in (None, method)
        ):
            return False
        self.struck = True
        if fault.short and method == "xWrite":
            return True
        raise fault.error(f"{method} failed")

    def take(self, size: int) -> None:
        """Room for a write. `apsw.FullError`."""
        if self.room is not None:
            if self.room < size:
                raise apsw.FullError("no room")
            self.room -= size

    def after_power_cut(self, at: int, folder: Path, survivors: Survivors) -> None:
        """Make `folder` what a power cut after `at` changes leaves: what was synced, and `survivors` of the rest."""
        folder.mkdir(parents=True)
        changes = [change for number, change in enumerate(self.changes) if number < at or change.kind == "found"]
        for file, content in _left(changes, survivors).items():
            (folder / file).write_bytes(content)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, file: str, name: str | apsw.URIFilename, flags: list[int]) -> None:
        self._disk = disk
        self._file = file
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.call("xRead")
        return super().xRead(amount, offset)

    def xFileSize(self) -> int:
        self._disk.call("xFileSize")
        return super().xFileSize()

    def xLock(self, level: int) -> None:
        self._disk.call("xLock")
        super().xLock(level)

    def xWrite(self, data: bytes, offset: int) -> None:
        short = self._disk.call("xWrite")
        self._disk.take(len(data))
        written = bytes(data[: len(data) // 2]) if short else bytes(data)
        super().xWrite(written, offset)
        self._disk.changes.append(Change("write", self._file, offset, written))
        if short and self._disk.fault is not None:
            raise self._disk.fault.error("xWrite wrote half")

    def xTruncate(self, newsize: int) -> None:
        self._disk.call("xTruncate")
        super().xTruncate(newsize)
        self._disk.changes.append(Change("truncate", self._file, newsize))

    def xSync(self, flags: int) -> None:
        self._disk.call("xSync")
        self._disk.syncing.set()
        self._disk.may_sync.wait()
        if self._disk.failing_sync:
            raise apsw.IOError("fsync failed")
        # What a power cut would leave is put together from the changes: the machine's own disk need not be waited for.
        self._disk.changes.append(Change("sync", self._file))


@contextmanager
def disk(fault: Fault | None = None) -> Iterator[Disk]:
    """A disk, whose VFS is known to SQLite meanwhile."""
    made = Disk(fault)
    try:
        yield made
    finally:
        made.unregister()


# --- what survives of that which was not synced


def nothing(change: Change) -> Sequence[Write]:
    """The drive's cache is lost."""
    return []


def all_of_it(change: Change) -> Sequence[Write]:
    """Only the process died."""
    return [(change.offset, change.data)]


def some_sectors(chance: Random) -> Survivors:
    """The drive had written some sectors, in any order."""

    def survivors(change: Change) -> Sequence[Write]:
        starts = range(0, len(change.data), SECTOR) if change.kind == "write" else [0]
        sectors = [(change.offset + start, change.data[start : start + SECTOR]) for start in starts]
        return [sector for sector in sectors if chance.random() < 0.5]

    return survivors


def _left(changes: Iterable[Change], survivors: Survivors) -> dict[str, bytearray]:
    """The files after changes: those that were synced for sure, of the others what survives."""
    safe: dict[str, bytearray] = {}
    loose: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if change.kind == "found":
            safe[change.file] = bytearray(change.data)
        elif change.kind == "delete":
            safe.pop(change.file, None)
            loose.pop(change.file, None)
        elif change.kind == "sync":
            if change.file not in safe and change.file.endswith(_SYNCED_WITH_FOLDER):
                for file in [file for file, pending in loose.items() if pending[-1].kind == "unlink"]:
                    safe.pop(file, None)
                    del loose[file]
            for each in loose.pop(change.file, []):
                _apply(safe, each, all_of_it(each))
            safe.setdefault(change.file, bytearray())
        else:
            loose[change.file].append(change)
    for pending in loose.values():
        for each in pending:
            _apply(safe, each, survivors(each))
    return safe


def _apply(files: dict[str, bytearray], change: Change, writes: Iterable[Write]) -> None:
    for offset, data in writes:
        if change.kind == "unlink":
            files.pop(change.file, None)
            continue
        content = files.setdefault(change.file, bytearray())
        if change.kind == "truncate":
            del content[offset:]
        else:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data
