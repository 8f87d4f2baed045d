"""The data folder: one server at a time, and a file that is given up when the disk is full."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from millstream.errors import DataFolderError

_LOCK = "log.lock"
_BALLAST = "ballast"
_MARGIN = 2  # times its size must be free before the ballast is taken again: it must not fill the disk itself


class FolderLock:
    """Held while the folder is ours. The kernel releases it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if there is none, and take it. `DataFolderError`."""
        try:
            _make(folder)
            self._file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataFolderError(
                f"the data folder {str(folder)!r} cannot be used: {error.strerror}; "
                "name a folder that this user may write to"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise DataFolderError(
                f"the data folder {str(folder)!r} is in use by another server, process {owner}; "
                "stop that one first, or give this one a folder of its own"
            ) from None
        with suppress(OSError):  # on a full disk it is ours too, and the next one is told of nobody in particular
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self._file)


def _make(folder: Path) -> None:
    """Make a folder that outlives a power cut: SQLite syncs what is in it, and nobody else would sync its parents."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        parent = os.open(each.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


class Ballast:
    """A file of `size` bytes beside the log. When the disk is full, freeing it makes the room that dropping expired
    events needs, and that the operator needs to look around."""

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / _BALLAST
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the file is there, in full; always, if it is to have no bytes."""
        try:
            return not self._size or self._path.stat().st_size == self._size
        except OSError:
            return False

    def free(self) -> None:
        """Give the room up."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def take(self) -> bool:
        """Have the file, if there is room enough; whether it is there."""
        if self.held:
            return True
        try:
            if shutil.disk_usage(self._path.parent).free > self._size * (1 + _MARGIN):
                _fill(self._path, self._size)
        except OSError:
            self.free()
        return self.held


def _fill(path: Path, size: int) -> None:
    """Write zeros: a file system may keep a hole for what was only reserved."""
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            file.write(bytes(min(1 << 20, size - start)))
        file.flush()
        os.fsync(file.fileno())
