"""What was read last, for the others who are going to read it.

Groups that keep up read the same new records, one group after the other: with fifty queries on a stream most of a
worker's time went into fetching the same small chunks, and putting them together, for each query again. So what one
member has read is kept for those behind it, and all of them get the same records, as the same objects.

That needs places at which they meet; if each of them read up to the end, each would stand somewhere else. So the file
is looked at for somebody who has had everything that was found there. Who has not gets that, and asks again when he
is done with it. Nobody waits for anybody, and who is slower takes what has come together as one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millstream.log.records import Records, concatenate

NOWHERE = -1
"""The offset of who reads a partition from somewhere else."""

_BYTES = 16 << 20
_OVERHEAD_BYTES = 2_048  # of records in memory, beside their columns


@dataclass(slots=True)
class _Run:
    """Adjoining records of a partition, up to `next_offset`, behind which round `looked` was the last to look."""

    next_offset: int
    looked: int
    pieces: list[Records] = field(default_factory=list)

    @property
    def first(self) -> int:
        return self.pieces[0].first if self.pieces else self.next_offset


class Recent:
    """Keeps the records that were read last, up to a bound, by their partition's id. Used from one thread."""

    def __init__(self, limit_bytes: int = _BYTES) -> None:
        self._limit = limit_bytes
        self._runs: OrderedDict[int, _Run] = OrderedDict()  # the one that was read longest ago is the first
        self._bytes = 0
        self._round = 0

    def clear(self) -> None:
        """Forget everything."""
        self._runs.clear()
        self._bytes = 0

    def split(self, offsets: Mapping[int, int]) -> tuple[list[int], list[int]]:
        """Of the partitions that somebody reads from these offsets: those of which something is here, and those that he
        is to look for in the file, and to `add`. Of the others nothing was there when what is here was read."""
        self._round += 1
        here, beyond, round_ = [], {}, 0
        for partition, offset in offsets.items():
            run = self._runs.get(partition)
            if run is not None and run.first <= offset < run.next_offset:
                here.append(partition)
                round_ = max(round_, run.looked)
            else:
                beyond[partition] = -1 if run is None or offset != run.next_offset else run.looked
        return here, [partition for partition, looked in beyond.items() if not here or looked < round_]

    def take(self, partition: int, offset: int, limit_bytes: int) -> Records:
        """What is here from an offset on, about `limit_bytes` of it, and at least one record. What was put together for
        one is kept like that for the next."""
        run = self._runs[partition]
        start = next(number for number, piece in enumerate(run.pieces) if offset < piece.next_offset)
        end, size = start, 0
        while end < len(run.pieces) and size < limit_bytes:
            size += run.pieces[end].nbytes
            end += 1
        if end - start > 1:
            self._bytes -= _cost(run.pieces[start:end])
            run.pieces[start:end] = [concatenate(run.pieces[start:end])]
            self._bytes += _cost(run.pieces[start : start + 1])
        return run.pieces[start].since(offset).within(limit_bytes)

    def add(self, partition: int, offset: int, pieces: Sequence[Records]) -> None:
        """What somebody has found in the file from an offset on, perhaps nothing. Who is behind the others finds
        nothing that they have not had."""
        run = self._runs.get(partition)
        if run is not None and offset < run.next_offset:
            return
        if run is None or run.next_offset != (pieces[0].first if pieces else offset):
            self._drop(partition)
            run = self._runs[partition] = _Run(offset, self._round)
        run.looked = self._round
        if pieces:
            run.pieces += pieces
            run.next_offset = pieces[-1].next_offset
            self._runs.move_to_end(partition)
            self._bytes += _cost(pieces)
            self._shrink()

    def _drop(self, partition: int) -> None:
        if (run := self._runs.pop(partition, None)) is not None:
            self._bytes -= _cost(run.pieces)

    def _shrink(self) -> None:
        while self._bytes > self._limit:
            run = next(run for run in self._runs.values() if run.pieces)
            self._bytes -= _cost([run.pieces.pop(0)])


def _cost(pieces: Sequence[Records]) -> int:
    return sum(piece.nbytes + _OVERHEAD_BYTES for piece in pieces)
