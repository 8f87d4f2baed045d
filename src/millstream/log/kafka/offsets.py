"""What a group keeps with its committed offsets, as their metadata.

The offset of a stream's partition is the group's low-water offset there. Its metadata names the events above it that
are completed, the tick that is asked for, and which stream it is: one that is made again under the same name is another
one, and a position in the earlier one is none in it. The offset of a partition of the group's state topic counts the
transactions that the partition's owners have committed, so that one whose outcome is unknown can be looked up; its
metadata are the group's counts, and which member has committed last.

Brokers take 4096 characters (`offset.metadata.max.bytes`). What is longer is a state chunk instead, in the same
transaction, and the metadata say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from millstream.clock import Micros
from millstream.log.contract import Position

LONGEST = 3500  # characters of metadata
HIDDEN = "$"
"""Names of state chunks that begin so are not the group's own."""


_SHORT = {"stream": "s", "start": "b", "done": "d", "due": "t", "chunk": "c", "counts": "n", "writer": "w"}


class Place(msgspec.Struct, rename=_SHORT, omit_defaults=True):
    """The metadata of a position: the stream's id, where the group began, the completed runs above the low-water offset
    (the distance from the end of the run before, and the length, in turns), and the due time."""

    stream: str = ""
    start: int = 0
    done: list[int] = []
    due: Micros | None = None
    chunk: bool = False


class Counts(msgspec.Struct, rename=_SHORT, omit_defaults=True):
    """The metadata of a partition of the state topic."""

    counts: dict[str, int] = {}
    writer: str = ""
    """The member that has committed last."""
    chunk: bool = False


def pack(value: Place | Counts) -> tuple[str, bytes | None]:
    """Metadata, and what does not fit into them."""
    whole = msgspec.json.encode(value)
    if len(whole) <= LONGEST:
        return whole.decode(), None
    if isinstance(value, Place):
        return msgspec.json.encode(msgspec.structs.replace(value, done=[], chunk=True)).decode(), whole
    return msgspec.json.encode(msgspec.structs.replace(value, counts={}, chunk=True)).decode(), whole


def unpack_place(metadata: str | None) -> Place:
    """Metadata of a position; those of another program's are as none."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Place)
    except msgspec.MsgspecError:
        return Place()


def unpack_counts(metadata: str | None) -> Counts:
    """Metadata of a partition of the state topic."""
    try:
        return msgspec.json.decode(metadata or "{}", type=Counts)
    except msgspec.MsgspecError:
        return Counts()


def to_runs(low: int, done: Sequence[int]) -> list[int]:
    """Ascending offsets above `low` as runs."""
    runs: list[int] = []
    end = low
    start = None
    for offset, after in pairwise([*done, -1]):
        if start is None:
            start = offset
        if after != offset + 1:
            runs += (start - end, offset + 1 - start)
            end, start = offset + 1, None
    return runs


def from_runs(low: int, runs: Iterable[int]) -> tuple[int, ...]:
    """The inverse of `to_runs`."""
    done: list[int] = []
    end = low
    numbers = iter(runs)
    for distance, length in zip(numbers, numbers, strict=True):
        start = end + distance
        end = start + length
        done += range(start, end)
    return tuple(done)


def position_of(low: int, place: Place) -> Position:
    """The position that an offset and its metadata tell."""
    return Position(low, from_runs(low, place.done))


def done_chunk(stream: str) -> str:
    """The name of the chunk that holds what did not fit into a position's metadata."""
    return f"{HIDDEN}done:{stream}"


COUNTS_CHUNK = f"{HIDDEN}counts"


def chunk_of(chunks: Mapping[str, bytes], name: str) -> bytes:
    """A hidden chunk; empty JSON if it is not there."""
    return chunks.get(name, b"{}")


def visible(chunks: Mapping[str, bytes]) -> dict[str, bytes]:
    """The chunks that a group has saved itself, ordered by name."""
    return {name: chunk for name, chunk in sorted(chunks.items()) if not name.startswith(HIDDEN)}
