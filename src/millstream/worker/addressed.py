"""Events that are for one group, which the others that read their stream pass by: what is sent again to it, and resets
(`ledger/resets.py`), by which a key begins anew in what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millstream.event import RESEND_GROUP, Batch
from millstream.ledger import RESEND_OF, is_reset

_NAME = pa.scalar(RESEND_GROUP)


@dataclass(frozen=True, slots=True)
class Addressed:
    """Which events of a batch are for other groups, and the rows of the resets for this one, ascending."""

    others: npt.NDArray[np.bool_]
    resets: Sequence[int]

    def without_resets(self) -> Addressed:
        """The same for who keeps nothing of keys: resets are for others as well."""
        others = self.others.copy()
        others[list(self.resets)] = True
        return Addressed(others, ())


@dataclass(slots=True)
class Piece:
    """Batches without what is for other groups (`skipped` events); or, where it `resets` a key, the place of a reset as
    a batch without events."""

    batches: list[Batch] = field(default_factory=list)
    skipped: int = 0
    resets: str | None = None


def addressed(batch: Batch, group: str) -> Addressed | None:
    """None where all events are for everybody, which costs next to nothing to find out."""
    headers = batch.events.column("headers")
    if headers.null_count == len(headers) or not pc.any(pc.equal(headers.keys, _NAME)).as_py():
        return None
    here = f"{batch.stream}:{batch.partition}:"
    found = [_is_for(dict(its or ()), here) for its in headers.to_pylist()]
    others = np.array([to is not None and to[0] != group for to in found], np.bool_)
    return Addressed(others, [row for row, to in enumerate(found) if to == (group, True)])


def _is_for(headers: dict[str, str], here: str) -> tuple[str, bool] | None:
    """The group that an event is for alone, and whether it is a reset. Headers count only in the partition that they
    name: an event that was made of such a one is a new one."""
    group = headers.get(RESEND_GROUP)
    if group is None or not headers.get(RESEND_OF, "").startswith(here):
        return None
    return group, is_reset(headers, here)


def in_pieces(batches: Sequence[Batch], group: str) -> list[Piece]:
    """The batches for a group, cut where keys begin anew."""
    between, resets = [Piece()], list[list[Piece]]()
    for batch in batches:
        its = addressed(batch, group)
        if its is None:
            between[0].batches.append(batch)
            continue
        between += [Piece() for _ in range(len(its.resets) + 1 - len(between))]
        resets += [[] for _ in range(len(its.resets) - len(resets))]
        for row, there in zip(its.resets, resets, strict=False):
            there.append(_reset(batch, row))
        starts, ends = [0, *(row + 1 for row in its.resets)], [*its.resets, len(batch)]
        for start, end, piece in zip(starts, ends, between, strict=False):
            keep = np.flatnonzero(~its.others[start:end]) + start
            piece.batches.append(_part(batch, start, end, keep))
            piece.skipped += end - start - len(keep)
    return [between[0], *(one for each, piece in zip(resets, between[1:], strict=True) for one in (*each, piece))]


def _reset(batch: Batch, row: int) -> Piece:
    """A key begins anew where this row stands."""
    offset = batch.events.column("offset")[row].as_py()
    place = replace(batch, events=batch.events.slice(0, 0), next_offset=offset + 1, ticks=())
    return Piece([place], resets=batch.events.column("key")[row].as_py())


def _part(batch: Batch, start: int, end: int, keep: npt.NDArray[np.int64]) -> Batch:
    """The rows `keep` of a batch, of those between two resets, with the ticks between these."""
    offsets = batch.events.column("offset")
    before = offsets[start - 1].as_py() if start else -1
    next_offset = offsets[end].as_py() if end < len(batch) else batch.next_offset
    ticks = tuple(tick for tick in batch.ticks if before < tick.offset < next_offset)
    return replace(batch, events=batch.events.take(pa.array(keep)), next_offset=next_offset, ticks=ticks)
