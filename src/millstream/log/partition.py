"""The partition of a key: Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`) with the sign bit cleared,
modulo the number of partitions, so that a key has the same partition on every backend."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_M = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_FEW = 32  # keys of a length, each of which is hashed by itself in less time

_Words = npt.NDArray[np.uint32]


@lru_cache(maxsize=100_000)
def partition_of(key: str, partitions: int) -> int:
    """The partition of a key."""
    data = key.encode()
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % partitions


def partitions_of(keys: pa.StringArray, partitions: int) -> npt.NDArray[np.int64]:
    """The partitions of many keys, none of them null: those of the same length are hashed together."""
    found = np.empty(len(keys), np.int64)
    if not len(keys):
        return found
    _, offsets, content = keys.buffers()
    bounds = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1]
    characters = np.frombuffer(content or b"", np.uint8)
    lengths = np.diff(bounds)
    order = np.argsort(lengths, kind="stable")
    distinct, starts = np.unique(lengths[order], return_index=True)
    for length, rows in zip(distinct.tolist(), np.split(order, starts[1:]), strict=True):
        if len(rows) <= _FEW:
            found[rows] = [partition_of(keys[row].as_py(), partitions) for row in rows.tolist()]
        else:
            found[rows] = (_murmur2(characters, bounds[rows], length) & 0x7FFFFFFF) % partitions
    return found


def _murmur2(characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int32], length: int) -> _Words:
    """The hash of each of some texts, all of so many bytes, which begin at `starts`."""
    m = np.uint32(_M)
    h: _Words = np.full(len(starts), _SEED ^ length, np.uint32)
    whole = length & ~3
    for at in range(0, whole, 4):
        k = _word(characters, starts + at, 4) * m
        k = (k ^ (k >> np.uint32(24))) * m
        h = h * m ^ k
    if whole < length:
        h = (h ^ _word(characters, starts + whole, length - whole)) * m
    h = (h ^ (h >> np.uint32(13))) * m
    return h ^ (h >> np.uint32(15))


def _word(characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int32], size: int) -> _Words:
    """The bytes that stand there as a number, the first one the least."""
    word: _Words = np.zeros(len(starts), np.uint32)
    for place in range(size):
        word |= characters.take(starts + place).astype(np.uint32) << np.uint32(8 * place)
    return word
