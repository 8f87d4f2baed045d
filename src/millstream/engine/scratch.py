"""Room for tables: in memory up to a bound that all queries of a worker share, and beyond it in a file.

What is held there is a copy of what is saved with commits, so nothing of it must survive. The file has no name: when
the process ends, however it does, the file is gone. A table in it is mapped while somebody looks at it, and takes no
memory otherwise; whoever keeps something of it makes a copy.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import weakref
from bisect import bisect
from pathlib import Path
from threading import Lock
from typing import IO

import pyarrow as pa
import pyarrow.ipc

from millstream.errors import ScratchError

_PAGE = mmap.ALLOCATIONGRANULARITY


class Scratch:
    """At most `memory` bytes (by default without a bound), and as many as there are in `folder` (None: the system's for
    temporary files)."""

    def __init__(self, memory: int = sys.maxsize, folder: Path | None = None) -> None:
        self._limit = memory
        self._folder = folder
        self._lock = Lock()
        self.memory = 0
        self._file: _File | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more fits into memory."""
        return self.memory >= self._limit

    @property
    def disk(self) -> int:
        """How many bytes of the file are taken."""
        return self._file.taken if self._file is not None else 0

    def charge(self, size: int) -> None:
        """So many bytes of memory are taken, or given back if it is negative."""
        with self._lock:
            self.memory += size

    def charge_if_free(self, size: int) -> bool:
        """The same if there are as many."""
        with self._lock:
            fits = self.memory + size <= self._limit
            self.memory += size if fits else 0
            return fits

    def write(self, table: pa.Table) -> Extent:
        """Put a table on disk. `ScratchError`: that cannot be done."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with self._lock:
            try:
                self._file = self._file or _File(self._folder)
                return Extent(self._file, self._file.write(sink.getvalue()), self._lock)
            except OSError as error:
                folder = self._folder or tempfile.gettempdir()
                raise ScratchError(
                    f"the state of queries has outgrown state_memory, and there is no room for it in {folder}: "
                    f"{error}; make room there, or allow more state_memory"
                ) from error


class Room:
    """What one query holds of a scratch: so many bytes in `memory`, and on `disk`."""

    def __init__(self, scratch: Scratch | None = None) -> None:
        self._scratch = scratch or Scratch()
        self.memory = 0
        self.disk = 0

    @property
    def is_full(self) -> bool:
        """Whether no more fits into memory."""
        return self._scratch.is_full

    def charge(self, size: int) -> None:
        """The query has so many bytes more in memory by itself, or fewer if it is negative."""
        self._scratch.charge(size)
        self.memory += size

    def hold(self, table: pa.Table) -> Held:
        """Hold a table, on disk if there is no room in memory. `ScratchError`: that cannot be done."""
        if self._scratch.charge_if_free(table.nbytes):
            self.memory += table.nbytes
            return Held(self, table)
        extent = self._scratch.write(table)
        self.disk += extent.length
        return Held(self, extent)


class Held:
    """A table that is held, until it is let go."""

    def __init__(self, room: Room, place: pa.Table | Extent) -> None:
        self._room = room
        self._place: pa.Table | Extent | None = place
        self.size: int = place.length if isinstance(place, Extent) else place.nbytes

    @property
    def table(self) -> pa.Table:
        """What is held. It is to be looked at only before `let_go`."""
        assert self._place is not None, "it was let go"
        return self._place.map() if isinstance(self._place, Extent) else self._place

    def let_go(self) -> None:
        """Give the room back."""
        if isinstance(self._place, Extent):
            self._place.free()
            self._room.disk -= self.size
        elif self._place is not None:
            self._room.charge(-self.size)
        self._place = None


class Extent:
    """A part of the file, with a table in it."""

    def __init__(self, file: _File, place: tuple[int, int], lock: Lock) -> None:
        self._file = file
        self._lock = lock
        self._offset, self.length = place

    def map(self) -> pa.Table:
        """The table, where it lies."""
        mapped = mmap.mmap(self._file.number, self.length, access=mmap.ACCESS_READ, offset=self._offset)
        return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()

    def free(self) -> None:
        """Others may take the place."""
        with self._lock:
            self._file.free(self._offset, self.length)


class _File:
    """A file without a name, of parts that are taken and are free."""

    def __init__(self, folder: Path | None) -> None:
        self._open: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._open.close)
        self.number = self._open.fileno()
        self._end = 0
        self._free: list[tuple[int, int]] = []  # offsets and lengths, ascending, with something taken between them

    def write(self, content: pa.Buffer) -> tuple[int, int]:
        """Write into the first free part that is large enough, or at the end: gives the offset and the length."""
        length = -(-content.size // _PAGE) * _PAGE
        offset = self._take(length)
        try:
            self._open.seek(offset)
            rest = memoryview(content)
            while rest:
                rest = rest[self._open.write(rest) :]
            if offset + length == self._end:
                os.truncate(self.number, self._end)  # to whole pages
        except OSError:
            self.free(offset, length)
            raise
        return offset, length

    @property
    def taken(self) -> int:
        """How many bytes are taken."""
        return self._end - sum(length for _, length in self._free)

    def _take(self, length: int) -> int:
        for place, (offset, room) in enumerate(self._free):
            if room >= length:
                self._free[place : place + 1] = [(offset + length, room - length)] if room > length else []
                return offset
        self._end += length
        return self._end - length

    def free(self, offset: int, length: int) -> None:
        """Give a part back; at the end of the file to the disk."""
        place = bisect(self._free, (offset, length))
        if place < len(self._free) and self._free[place][0] == offset + length:
            length += self._free.pop(place)[1]
        if place and sum(self._free[place - 1]) == offset:
            offset, before = self._free.pop(place - 1)
            length += before
            place -= 1
        if offset + length == self._end:
            self._end = offset
            os.truncate(self.number, offset)
        else:
            self._free.insert(place, (offset, length))
