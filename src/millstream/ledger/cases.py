"""Cases: what an operator looks at.

An event that no query can decode is one thing to look at, however many queries there are, though each of them has
written a letter: only what a group commits itself is as sure as the rest of its transaction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime

from millstream.ledger.deadletters import Resolution
from millstream.ledger.letter import Letter
from millstream.ledger.scan import time_of


@dataclass(frozen=True, slots=True)
class Case:
    """Dead letters of one event that groups gave up for the same reason, in their order, and what was done about them
    all (None: they are open)."""

    letters: list[Letter]
    done: Resolution | None

    @property
    def name(self) -> str:
        """What it is called on the command line: a letter's name, or the event's position."""
        return self.letters[0].name if len(self.letters) == 1 else self.letters[0].origin

    @property
    def groups(self) -> Sequence[str]:
        """Those that gave the event up."""
        return [letter.group for letter in self.letters]


class Cases:
    """The last cases, of letters that come in their order in each partition. All of an event are in one partition."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._partitions: dict[int, OrderedDict[Hashable, Case]] = {}

    def add(self, letter: Letter, done: Resolution | None) -> None:
        """Add a letter, and what was done about it."""
        cases = self._partitions.setdefault(letter.event.partition, OrderedDict())
        what = None if done is None else (done.action, done.group, done.edited, done.time)
        key = (letter.origin, letter.reason, letter.error, what)
        cases.setdefault(key, Case([], done)).letters.append(letter)
        cases.move_to_end(key)
        if len(cases) > self._limit:
            cases.popitem(last=False)

    def last(self) -> Sequence[Case]:
        """In the order of their last letters."""
        found = (case for cases in self._partitions.values() for case in cases.values())
        return sorted(found, key=lambda case: placed(case.letters[-1]))[-self._limit :]


def placed(letter: Letter) -> tuple[datetime, int, int]:
    """Where a letter stands among all."""
    return time_of(letter.event), letter.event.partition, letter.event.offset
