"""What a member was told and has not completed: so that what it completes is counted, once, and the ledger balances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from millstream.errors import PayloadError
from millstream.ledger.names import EXPIRED, PROCESSED
from millstream.log import Poll, Position

Place = tuple[str, int]
"""A stream and a partition."""

_Offsets = npt.NDArray[np.int64]
_NONE: _Offsets = np.empty(0, np.int64)


@dataclass(slots=True)
class _Share:
    """Of one partition: the offsets of events that were told and are not completed, where the next ones begin, what was
    completed out of order, and how many events retention took, which no transaction has counted yet."""

    next: int
    done: frozenset[int]
    offsets: _Offsets = field(default_factory=lambda: _NONE)
    expired: int = 0

    def completed(self, position: Position) -> npt.NDArray[np.bool_]:
        """Which of the offsets a position completes."""
        return (self.offsets < position.low) | np.isin(self.offsets, np.array(position.done, np.int64))


class Outstanding:
    """By stream and partition."""

    def __init__(self) -> None:
        self._shares: dict[Place, _Share] = {}

    def __len__(self) -> int:
        return sum(len(share.offsets) for share in self._shares.values())

    def tell(self, poll: Poll) -> None:
        """The member is told this."""
        self.drop(poll.lost)
        for number, positions in poll.gained.items():
            for stream, its in positions.items():
                self._shares[stream, number] = _Share(its.low, frozenset(its.done))
        for place, events in poll.expired.items():
            self._shares[place].expired += events
        for batch in poll.batches:
            share = self._shares[batch.stream, batch.partition]
            share.offsets = np.concatenate([share.offsets, batch.events.column("offset").to_numpy()])
            share.next = batch.next_offset

    def drop(self, partitions: Iterable[int]) -> None:
        """These are no longer the member's."""
        gone = set(partitions)
        self._shares = {place: share for place, share in self._shares.items() if place[1] not in gone}

    def count(self, positions: Mapping[Place, Position]) -> Counter[str]:
        """What moving to these positions completes, by the ledger's names. `PayloadError` for what was not told; places
        that are not the member's count nothing: its commit is refused."""
        counts: Counter[str] = Counter()
        for place, position in positions.items():
            if (share := self._shares.get(place)) is not None:
                _check(place, position, share)
                counts[PROCESSED] += int(share.completed(position).sum())
                counts[EXPIRED] += share.expired
        return +counts  # without zeros

    def complete(self, positions: Mapping[Place, Position]) -> None:
        """It is committed."""
        for place, position in positions.items():
            if (share := self._shares.get(place)) is not None:
                share.offsets = share.offsets[~share.completed(position)]
                share.done = frozenset(position.done)
                share.expired = 0


def _check(place: Place, position: Position, share: _Share) -> None:
    stream, number = place
    if position.low > share.next:
        raise PayloadError(
            f"position {position.low} in partition {number} of stream {stream!r} is beyond what you were told, which "
            f"ends at {share.next}; poll, and commit what the answer brings"
        )
    unknown = [one for one in position.done if one not in share.done and one not in share.offsets]
    if unknown:
        raise PayloadError(
            f"offset {unknown[0]} in partition {number} of stream {stream!r} was not told to you as an event; list in "
            "'done' what polls have brought, and what was listed before"
        )
