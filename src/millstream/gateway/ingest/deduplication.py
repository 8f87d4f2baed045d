"""Which events with an `id` were committed before, within a bounded window that survives a restart.

An id counts within its topic. A pair is remembered as a digest of 16 bytes: two different pairs of a million share one
with a probability below 1e-26. Digests lie in chunks of the log group `$gateway`, which commit in the transaction of
their events: whatever is committed is remembered, and nothing else. The newest chunk is written again, longer, until it
is large enough, so that a trickle of ids makes no trickle of chunks; a chunk is dropped as a whole.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from millstream.clock import Micros
from millstream.log.contract import MAX_CHUNK_BYTES

_DIGEST = 16  # bytes
_TIMES = struct.Struct("<qq")  # of the first and the last commit in a chunk, before its digests
_CLOSED = 256  # digests; a chunk that has as many is not written again
_LARGEST = (MAX_CHUNK_BYTES - _TIMES.size) // _DIGEST
_AGES = 16  # chunks a window at least, so that an id is forgotten soon after its time


def digest(topic: str, event_id: str) -> bytes:
    """What stands for an id within a topic (a topic has no null character)."""
    return hashlib.blake2b(f"{topic}\0{event_id}".encode(), digest_size=_DIGEST).digest()


@dataclass(slots=True)
class _Chunk:
    number: int
    first: Micros
    last: Micros
    digests: list[bytes]

    @property
    def name(self) -> str:
        return f"{self.number:016d}"

    def encode(self) -> bytes:
        return _TIMES.pack(self.first, self.last) + b"".join(self.digests)


@dataclass(frozen=True, slots=True)
class Remembered:
    """`first`: which digests are seen for the first time. `saves` and `drops` are chunks of the group's state, to be
    committed with the events."""

    first: list[bool]
    saves: Mapping[str, bytes]
    drops: list[str]


class Deduplication:
    """Ids seen within `window` microseconds, at most `limit` of them (the oldest are forgotten first)."""

    def __init__(self, window: Micros, limit: int) -> None:
        self._window = window
        self._limit = limit
        self._chunks: deque[_Chunk] = deque()
        self._seen: dict[bytes, _Chunk] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._seen)

    def restore(self, chunks: Mapping[str, bytes]) -> None:
        """Take on what was saved, by name."""
        for name in sorted(chunks):
            data = chunks[name]
            first, last = _TIMES.unpack_from(data)
            digests = [data[at : at + _DIGEST] for at in range(_TIMES.size, len(data), _DIGEST)]
            self._add(_Chunk(int(name), first, last, digests))

    def remember(self, digests: list[bytes], now: Micros) -> Remembered:
        """Take digests in, in their order. They count as seen from now on, so what this returns must be committed
        before the next call; if it cannot be, the process must not go on."""
        drops = self._forget(now, len(digests))
        fresh: dict[bytes, None] = {}
        first: list[bool] = []
        for each in digests:
            is_new = each not in self._seen and each not in fresh
            first.append(is_new)
            if is_new:
                fresh[each] = None
        new = list(fresh)
        written = [self._write(new[start : start + _LARGEST], now) for start in range(0, len(new), _LARGEST)]
        return Remembered(first, {chunk.name: chunk.encode() for chunk in written}, drops)

    def _write(self, digests: list[bytes], now: Micros) -> _Chunk:
        newest = self._chunks[-1] if self._chunks else None
        if newest and len(newest.digests) + len(digests) <= _CLOSED and now - newest.first < self._window // _AGES:
            newest.last = max(newest.last, now)
            newest.digests += digests
            self._seen.update(dict.fromkeys(digests, newest))
        else:
            newest = _Chunk(self._next, now, now, digests)
            self._add(newest)
        return newest

    def _add(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self._seen.update(dict.fromkeys(chunk.digests, chunk))
        self._next = chunk.number + 1

    def _forget(self, now: Micros, coming: int) -> list[str]:
        room = max(0, self._limit - coming)
        dropped: list[str] = []
        while self._chunks and (now - self._chunks[0].last >= self._window or len(self._seen) > room):
            oldest = self._chunks.popleft()
            dropped.append(oldest.name)
            for each in oldest.digests:
                if self._seen.get(each) is oldest:
                    del self._seen[each]
        return dropped
