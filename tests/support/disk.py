"""A disk that fails, fills up, and forgets what was not synced, under SQLite."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

_names = itertools.count()


class Disk(apsw.VFS):
    """The system's VFS, but `failing_sync` makes every fsync fail, and `room` (bytes, when not None) bounds what can be
    written. A copy of each file as it was last synced is kept, for `after_power_cut`."""

    def __init__(self, kept: Path) -> None:
        self.name = f"disk-{next(_names)}"
        self.failing_sync = False
        self.room: int | None = None
        self._kept = kept
        kept.mkdir()
        super().__init__(self.name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        (self._kept / Path(filename).name).unlink(missing_ok=True)

    def keep(self, path: Path) -> None:
        """The file is safe as it is now."""
        shutil.copyfile(path, self._kept / path.name)

    def after_power_cut(self, folder: Path) -> None:
        """Make `folder` what a power cut would leave now: nothing that was not synced."""
        shutil.copytree(self._kept, folder)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else str(name))
        if self._path.exists():
            disk.keep(self._path)
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:
        if self._disk.failing_sync:
            raise apsw.IOError("fsync failed")
        super().xSync(flags)
        self._disk.keep(self._path)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._disk.room is not None:
            if self._disk.room < len(data):
                raise apsw.FullError("no room")
            self._disk.room -= len(data)
        super().xWrite(data, offset)


@contextmanager
def disk(kept: Path) -> Iterator[Disk]:
    """A disk, whose VFS is known to SQLite meanwhile."""
    made = Disk(kept)
    try:
        yield made
    finally:
        made.unregister()
